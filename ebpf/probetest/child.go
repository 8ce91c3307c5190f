package probetest

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

// childEnv tells a process started by Start which child it is.
const childEnv = "PROBETEST_CHILD"

// Main is a TestMain: it runs the tests, with one seed for the property tests (SOAK draws others), or,
// in a process that Start made, only the named child. A child speaks lines on standard input and output.
func Main(m *testing.M, children map[string]func(in *bufio.Scanner)) {
	if name := os.Getenv(childEnv); name != "" {
		child := children[name]
		if child == nil {
			fmt.Fprintf(os.Stderr, "no child %q\n", name)
			os.Exit(2)
		}
		child(bufio.NewScanner(os.Stdin))
		os.Exit(0)
	}
	flag.Parse()
	if f := flag.Lookup("rapid.seed"); f != nil && f.Value.String() == f.DefValue && os.Getenv("SOAK") == "" {
		if err := f.Value.Set("20261124"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// Child is a process made of the test binary: what a probe shall count runs apart from the test.
type Child struct {
	Pid  int
	t    testing.TB
	proc *os.Process
	in   *os.File
	out  *bufio.Scanner
	done bool
}

// Start runs a child of Main; it is killed with the test at the latest.
func Start(t testing.TB, name string) *Child {
	t.Helper()
	inR, inW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	proc, err := os.StartProcess(os.Args[0], os.Args[:1], &os.ProcAttr{
		Env:   append(os.Environ(), childEnv+"="+name),
		Files: []*os.File{inR, outW, os.Stderr},
	})
	inR.Close()
	outW.Close()
	if err != nil {
		t.Fatal(err)
	}
	c := &Child{Pid: proc.Pid, t: t, proc: proc, in: inW, out: bufio.NewScanner(outR)}
	c.out.Buffer(nil, 1<<22)
	t.Cleanup(func() {
		c.Kill()
		outR.Close()
	})
	return c
}

// Ask writes a line and gives the answer; an end of the child fails the test.
func (c *Child) Ask(format string, args ...any) string {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.in, format+"\n", args...); err != nil {
		c.t.Fatalf("ask child: %v", err)
	}
	return c.Hear()
}

// Hear gives the next line the child says.
func (c *Child) Hear() string {
	c.t.Helper()
	if !c.out.Scan() {
		c.t.Fatalf("child %d ended: %v", c.Pid, c.out.Err())
	}
	return strings.TrimSpace(c.out.Text())
}

// Kill ends the child with SIGKILL and waits for it.
func (c *Child) Kill() {
	if c.done {
		return
	}
	c.done = true
	c.in.Close()
	_ = c.proc.Kill() // it may have ended by itself
	_, _ = c.proc.Wait()
}
