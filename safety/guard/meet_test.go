package guard

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// couple is a parent and its guard, real processes on a ground of their own. Each access of the guard to a
// tunable waits until the test has seen it.
type couple struct {
	t       *testing.T
	g       *ground
	cmd     *exec.Cmd
	in      io.WriteCloser
	guard   int
	asks    chan string
	reports chan report // closed when the parent is gone
	goOn    *os.File
	meet    *os.File
	killed  bool // either of them, by us
	over    bool // both are gone
	seen    int  // accesses
	// at is called at every access, before the guard goes on.
	at func(ask string)
	// ticks is called now and then while a process is waited for.
	ticks func()
}

// startCouple starts both and waits for the guard's greeting, which comes after it has recovered. Without a
// living couple the report has the parent's reason, or nothing when it was killed.
func startCouple(t *testing.T, g *ground, boot string, refused *errnoProgram, at func(*couple, string)) (*couple, report, bool) {
	t.Helper()
	c := &couple{t: t, g: g, asks: make(chan string, 4), reports: make(chan report, 4), ticks: func() {}}
	c.at = func(ask string) {
		if at != nil {
			at(c, ask)
		}
	}
	askR, askW, err := os.Pipe()
	g.must(err)
	onR, onW, err := os.Pipe()
	g.must(err)
	c.goOn, c.meet = onW, askR
	c.cmd = exec.Command(os.Args[0])
	c.cmd.Env = roleEnv("actor", envData+"="+g.data, envRun+"="+g.run, envBoot+"="+boot)
	c.cmd.ExtraFiles = []*os.File{askW, onR}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if refused != nil {
		c.cmd.SysProcAttr.UseCgroupFD, c.cmd.SysProcAttr.CgroupFD = true, refused.fd
	}
	c.in, err = c.cmd.StdinPipe()
	g.must(err)
	out, err := c.cmd.StdoutPipe()
	g.must(err)
	g.must(c.cmd.Start())
	_, _ = askW.Close(), onR.Close() // theirs now
	go func() {
		for sc := bufio.NewScanner(askR); sc.Scan(); {
			c.asks <- sc.Text()
		}
	}()
	go func() {
		defer close(c.reports)
		for dec := json.NewDecoder(out); ; {
			var r report
			if dec.Decode(&r) != nil {
				return
			}
			c.reports <- r
		}
	}()
	first, ok := c.next()
	if ok && first.Error == nil {
		c.guard = first.Pid
		return c, first, true
	}
	c.end()
	return c, first, false
}

// mustStart starts both where nothing goes wrong, with the host's own boot id.
func mustStart(t *testing.T, g *ground) (*couple, report) {
	t.Helper()
	c, r, ok := startCouple(t, g, hostBoot(t), nil, nil)
	if !ok {
		t.Fatalf("start: %+v", r.Error)
	}
	t.Cleanup(c.abandon)
	return c, r
}

// order gives an order and waits for its answer.
func (c *couple) order(o order) report {
	c.t.Helper()
	c.tell(o)
	r, ok := c.next()
	if !ok {
		c.t.Fatalf("the parent died while it was to %s %s", o.Verb, o.Rollout)
	}
	return r
}

// lock finds the guard while its parent may not know it yet.
func (c *couple) lock() int {
	if c.guard != 0 {
		return c.guard
	}
	var pid int
	data, err := os.ReadFile(c.g.run + "/lock")
	if err == nil {
		_, err = fmt.Sscan(string(data), &pid)
	}
	if err != nil {
		return 0
	}
	return pid
}

func (c *couple) killParent() { c.killed = true; _ = c.cmd.Process.Kill() }

func (c *couple) killGuard() {
	if pid := c.lock(); pid != 0 {
		c.killed = true
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

func (c *couple) signalGuard(sig unix.Signal) {
	if pid := c.lock(); pid != 0 {
		_ = unix.Kill(pid, sig)
	}
}

// serve lets the guard go on from one access.
func (c *couple) serve(ask string) {
	c.seen++
	c.at(ask)
	_, _ = c.goOn.Write([]byte{1}) // to a dead guard too: nobody reads it
}

// tell gives an order; the answer comes by next.
func (c *couple) tell(o order) {
	c.t.Helper()
	line, err := json.Marshal(o)
	c.g.must(err)
	_, _ = c.in.Write(append(line, '\n')) // a dead parent is found out by its missing report
}

const patience = 20 * time.Second // for what must happen at some time; nothing is judged by it

// next waits for a report; without one the parent is gone.
func (c *couple) next() (report, bool) {
	c.t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case ask := <-c.asks:
			c.serve(ask)
		case r, ok := <-c.reports:
			return r, ok
		case <-tick.C:
			c.ticks()
		case <-limit:
			c.t.Fatalf("neither an answer nor an end within %v", patience)
		}
	}
}

// end waits until both are gone, whoever was killed: a guard without a parent restores first.
func (c *couple) end() {
	c.t.Helper()
	for {
		if _, ok := c.next(); !ok {
			break
		}
	}
	_ = c.cmd.Wait() // killed, or 1 after it lost its guard
	limit := time.Now().Add(patience)
	for guardAlive(c.g.run) {
		select {
		case ask := <-c.asks:
			c.serve(ask)
		case <-time.After(2 * time.Millisecond):
			c.ticks()
		}
		if time.Now().After(limit) {
			c.t.Fatalf("the guard still lives after %v", patience)
		}
	}
	_, _ = c.goOn.Close(), c.meet.Close()
	c.over = true
}

// bye ends both in peace.
func (c *couple) bye() {
	c.t.Helper()
	_ = c.in.Close()
	c.end()
	if !c.killed && !c.cmd.ProcessState.Success() {
		c.t.Errorf("the parent ends with %v", c.cmd.ProcessState)
	}
}

// abandon is for a test that has failed: no process may outlive it.
func (c *couple) abandon() {
	if c.over {
		return
	}
	c.signalGuard(unix.SIGKILL)
	if c.cmd.ProcessState == nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	}
}

func storyText(lines []string) string { return strings.Join(lines, "\n") }
