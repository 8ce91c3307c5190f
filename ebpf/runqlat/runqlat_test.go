package runqlat

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
)

const sleeperName = "sem-sleeper"

func TestMain(m *testing.M) {
	probetest.Main(m, map[string]func(*bufio.Scanner){"sleeper": sleeper})
}

func TestCounts(t *testing.T) {
	p := probetest.Load(t, New(), probe.Options{})
	time.Sleep(time.Second)
	got := probetest.Read(t, p)
	h := got.Hist("", signal)
	t.Logf("%d waits, p50 %.1f us, p95 %.1f us", h.Count(), h.Quantile(.5)/1e3, h.Quantile(.95)/1e3)
	if h.Count() == 0 {
		t.Error("no task waited for a CPU within a second")
	}
}

// account is what a sleeper knows of itself.
type account struct {
	Late     []float64 // ns from when the timer was due to when it ran
	RunDelay uint64    // /proc/thread-self/schedstat, over the same time
	Slices   uint64
}

// tries is how often a comparison may be made: on a machine seen, some switches away from certain threads
// reach no tracepoint, whoever listens (one in two thousand; the kernel's own count of switches has them).
const tries = 4

// TestAgainstSleeper holds the probe, narrowed to one thread, against what the kernel accounts to that
// thread and against how late the thread itself finds that it runs, among spinners on one CPU.
func TestAgainstSleeper(t *testing.T) {
	compare(t, "stay", func(got account, h probe.Hist) error {
		if err := sameAccount(got, h); err != nil {
			return err
		}
		late := 0.0
		for _, v := range got.Late {
			late += v
		}
		slices.Sort(got.Late)
		p50, want := h.Quantile(.5), got.Late[len(got.Late)/2]
		t.Logf("wakes late by %.2f ms in all, p50 %.3f ms; probe p50 %.3f ms", late/1e6, want/1e6, p50/1e6)
		// What the sleeper sees has the timer's interrupt and its way back to user space on top.
		switch sum, p50 := float64(h.Sum)/late, p50/want; {
		case late/float64(len(got.Late)) < 100e3:
			return errors.New("nothing delayed the sleeper; the test proves nothing")
		case p50 < 0.75 || p50 > 1.1:
			return fmt.Errorf("the probe's median is %.2f of what the sleeper saw", p50)
		case sum < 0.7 || sum > 1.1:
			return fmt.Errorf("the probe counted %.2f of the lateness the sleeper saw", sum)
		}
		return nil
	})
}

// TestAgainstMoves moves the sleeper between two CPUs while it waits: a wait is one wait wherever it is spent.
func TestAgainstMoves(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("needs two CPUs")
	}
	compare(t, "move", sameAccount)
}

func compare(t *testing.T, how string, judge func(account, probe.Hist) error) {
	t.Helper()
	var err error
	for range tries {
		p := probetest.Load(t, New(), probe.Options{Scope: probe.Scope{Comm: sleeperName}})
		got, h := sleep(t, p, how)
		t.Logf("probe: %d waits, %.3f ms; schedstat: %d, %.3f ms", h.Count(), float64(h.Sum)/1e6, got.Slices, float64(got.RunDelay)/1e6)
		if err = judge(got, h); err == nil {
			return
		}
		t.Log(err)
	}
	t.Error(err)
}

func sameAccount(got account, h probe.Hist) error {
	if r := float64(h.Sum) / float64(got.RunDelay); math.Abs(r-1) > 0.1 {
		return fmt.Errorf("sum of waits is %.3f of run_delay", r)
	}
	// The thread bears its name a little longer than it keeps its account.
	if d := math.Abs(float64(h.Count()) - float64(got.Slices)); d > 8 {
		return fmt.Errorf("%d waits, the kernel counted %d", h.Count(), got.Slices)
	}
	return nil
}

func sleep(t *testing.T, p *probe.Probe, how string) (account, probe.Hist) {
	t.Helper()
	c := probetest.Start(t, "sleeper")
	if s := c.Hear(); s != "ready" {
		t.Skip(s)
	}
	var got account
	if err := json.Unmarshal([]byte(c.Ask("%s", how)), &got); err != nil {
		t.Fatal(err)
	}
	h := probetest.Read(t, p).Hist("", signal)
	if got.RunDelay == 0 || len(got.Late) == 0 {
		t.Fatalf("the sleeper learnt nothing: %+v", got)
	}
	if p.Lost() != 0 {
		t.Errorf("lost %d", p.Lost())
	}
	return got, h
}

// sleeper is the child: on each CPU it uses a real-time thread that spins 6 ms of every 8, and beside
// them a thread that sleeps a few milliseconds at a time. (Ordinary spinners hardly delay a sleeper:
// the fair scheduler lets in who used little.)
func sleeper(in *bufio.Scanner) {
	runtime.GOMAXPROCS(16)
	var stop, run atomic.Bool
	for cpu := range min(2, runtime.NumCPU()) {
		go onThread(func() {
			pin(0, cpu)
			if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0); err != nil {
				fmt.Println("no real-time threads here:", err)
				return
			}
			for !stop.Load() {
				for end := monotonic() + 6e6; run.Load() && monotonic() < end; {
				}
				oversleep(2 * time.Millisecond)
			}
		})
	}
	done := make(chan struct{})
	go onThread(func() {
		defer close(done)
		sleepNamed(in, &stop, &run)
	})
	<-done
}

// sleepNamed runs on a thread that is not the process's first: a process's name counts for all its
// threads. The thread bears the name only while it keeps its own account.
func sleepNamed(in *bufio.Scanner, stop, run *atomic.Bool) {
	check(unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0))
	pin(0, 0)
	fmt.Println("ready")
	in.Scan()
	tid := unix.Gettid()
	var mover sync.WaitGroup
	if in.Text() == "move" {
		mover.Go(func() {
			for i := 0; !stop.Load(); i++ {
				pin(tid, i%2)
				time.Sleep(time.Millisecond)
			}
		})
	}
	run.Store(true)
	oversleep(20 * time.Millisecond)
	var a account
	rename(sleeperName)
	delay, n := schedstat()
	for i := range 150 {
		// The lengths differ, or the sleeper would fall into step with the tick that gives it the CPU.
		a.Late = append(a.Late, oversleep(2*time.Millisecond+time.Duration(i*37%50)*100*time.Microsecond))
	}
	d, m := schedstat()
	rename("other")
	a.RunDelay, a.Slices = d-delay, m-n
	stop.Store(true)
	mover.Wait()
	check(json.NewEncoder(os.Stdout).Encode(a))
	in.Scan()
}
