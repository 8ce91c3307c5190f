package rollout

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/host"
	"semantos/internal/tune"
	"semantos/safety/gate"
	"semantos/safety/guard"
)

// The test binary plays the guard too: a real process with a journal on a disk that can be frozen.
const (
	envGuard = "SEMANTOS_TEST_GUARD"
	envData  = "SEMANTOS_TEST_DATA"
	envRun   = "SEMANTOS_TEST_RUN"
	envRoot  = "SEMANTOS_TEST_ROOT"  // where it persists
	envNetns = "SEMANTOS_TEST_NETNS" // what it takes for the machine's own namespace
)

func TestMain(m *testing.M) {
	if os.Getenv(envGuard) != "" {
		if err := playGuard(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func playGuard() error {
	h := host.New(host.Config{})
	boot, err := h.BootID()
	if err != nil {
		return err
	}
	return guard.Run(context.Background(), guard.Config{Socket: os.NewFile(3, "parent"), Actuator: h, Catalogue: finCatalogue{},
		DataDir: os.Getenv(envData), RunDir: os.Getenv(envRun), Root: os.Getenv(envRoot), InitNetns: os.Getenv(envNetns), BootID: boot, Now: time.Now})
}

const finTimeout = "net.ipv4.tcp_fin_timeout"

// finCatalogue has one tunable of a network namespace.
type finCatalogue struct{}

func (finCatalogue) Lookup(name string) (*tune.Tunable, string, error) {
	if name != finTimeout {
		return nil, "", fmt.Errorf("look up %s: %w", name, tune.ErrUnknown)
	}
	return &tune.Tunable{Name: name, Kind: tune.KindInteger, Scope: tune.ScopeNetns, Method: tune.MethodSysctl,
		Path: strings.ReplaceAll(name, ".", "/")}, "", nil
}

func (finCatalogue) Invariants([]tune.Change, func(string, string) (tune.Value, error)) []error {
	return nil
}

// diskBench is a guard in a network namespace of its own, whose journal lies on a file system of its own.
type diskBench struct {
	t      testing.TB
	mount  string
	data   string
	root   string // "" where nothing is persisted
	run    string
	dir    *os.File // open before the disk hangs
	client *guard.Client
	sysctl string // the tunable's file, as this namespace sees it
	target string
	before string
	frozen bool
}

// newDiskBench says what the machine refused when it cannot be.
func newDiskBench(t testing.TB) *diskBench {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a loop mount and a network namespace")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("needs root: unshare: %v", err)
	}
	b := &diskBench{t: t, mount: filepath.Join(t.TempDir(), "disk")}
	image := filepath.Join(t.TempDir(), "image")
	for _, c := range [][]string{{"truncate", "-s", "64M", image}, {"mkdir", b.mount}, {"mkfs.ext4", "-q", image}, {"mount", "-o", "loop", image, b.mount}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Skipf("no disk to freeze here: %s: %v: %s", strings.Join(c, " "), err, out)
		}
	}
	t.Cleanup(func() {
		b.thaw()
		if b.dir != nil {
			_ = b.dir.Close()
		}
		if out, err := exec.Command("umount", b.mount).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	var err error
	if b.dir, err = os.Open(b.mount); err != nil {
		t.Fatal(err)
	}
	b.sysctl = "/proc/sys/net/ipv4/tcp_fin_timeout"
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	b.target, b.before = fmt.Sprintf("netns:%d", st.Ino), b.value()
	b.run, b.data = t.TempDir(), filepath.Join(b.mount, "data")
	b.start()
	return b
}

// start starts a guard, from this thread and so in its namespace.
func (b *diskBench) start() {
	b.t.Helper()
	c, err := guard.Start(context.Background(), guard.StartConfig{Stderr: os.Stderr,
		Env: append(os.Environ(), envGuard+"=1", envData+"="+b.data, envRun+"="+b.run, envRoot+"="+b.root, envNetns+"="+b.target)})
	if err != nil {
		b.t.Fatal(err)
	}
	b.client = c
	b.t.Cleanup(func() {
		b.thaw()
		_ = c.Close()
	})
}

// value reads the tunable from the thread's own namespace.
func (b *diskBench) value() string {
	data, err := os.ReadFile(b.sysctl)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(data))
}

// fiFreeze and fiThaw are FIFREEZE and FITHAW of linux/fs.h: every write to the file system waits.
const fiFreeze, fiThaw = 0xC0045877, 0xC0045878

func (b *diskBench) freeze() {
	if err := unix.IoctlSetInt(int(b.dir.Fd()), fiFreeze, 0); err != nil {
		b.t.Errorf("freeze: %v", err)
	}
	b.frozen = true
}

func (b *diskBench) thaw() {
	if b.frozen {
		b.frozen = false
		if err := unix.IoctlSetInt(int(b.dir.Fd()), fiThaw, 0); err != nil {
			b.t.Errorf("thaw: %v", err)
		}
	}
}

// saturate writes and syncs below the mount until stop is called.
func (b *diskBench) saturate(writers int) (stop func()) {
	var wg sync.WaitGroup
	end := make(chan struct{})
	for n := range writers {
		wg.Go(func() {
			f, err := os.Create(filepath.Join(b.mount, fmt.Sprintf("load%d", n)))
			if err != nil {
				return
			}
			defer f.Close()
			chunk := make([]byte, 1<<20)
			for i := int64(0); ; i++ {
				select {
				case <-end:
					return
				default:
				}
				_, _ = f.WriteAt(chunk, i%8<<20)
				_ = f.Sync()
			}
		})
	}
	return func() {
		close(end)
		wg.Wait()
	}
}

// breach is a host whose limit breaks at a moment of the test's choosing: the next look sees it.
type breach struct {
	mu   sync.Mutex
	at   time.Time // broken from here on; zero: not yet
	seen time.Time // the look that told of it
}

func (h *breach) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = time.Now()
}

func (h *breach) Look(context.Context) []Vital {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := Vital{Name: "processes killed", Kind: Count}
	if !h.at.IsZero() {
		v.Value = 1
		if h.seen.IsZero() {
			h.seen = time.Now()
		}
	}
	return []Vital{v}
}

// brokenAtCommit is the way to the guard, told when the commit is about to be asked for.
type brokenAtCommit struct {
	*guard.Client
	tell func()
}

func (w brokenAtCommit) Commit(ctx context.Context, rollout string) error {
	w.tell()
	return w.Client.Commit(ctx, rollout)
}

// times are how long after a broken limit the original was back, how long after the look that saw it, and
// how long after that look the rollout was over.
type times struct{ total, beyond, over time.Duration }

// restore runs a rollout, breaks a limit while its value stands, and measures. In a long slot, or while it
// waits for its commit.
func (b *diskBench) restore(rng *rand.Rand, committing bool, atBreach func()) times {
	b.t.Helper()
	h, held := &breach{}, make(chan struct{}, 1)
	change := tune.Change{Tunable: finTimeout, Scope: tune.ScopeNetns, Target: b.target, Current: tune.Value(b.before), Proposed: "17", TakesEffect: tune.Immediately}
	rec := tune.Recommendation{ID: tune.RecommendationID([]tune.Change{change}), Changes: []tune.Change{change}}
	writer := brokenAtCommit{b.client, func() {
		if committing {
			atBreach()
		}
		held <- struct{}{}
	}}
	runner := NewRunner(RunnerConfig{Writer: writer, Audit: b.client, Dead: b.client.Done(), Tunables: finCatalogue{}, Vitals: h, Now: time.Now, Rand: rng,
		Gate: gate.New(gate.Config{Tau: 0.55, Outcomes: 100, Live: nothingLive{}, Ranges: noRanges{}, Tunables: finCatalogue{}})})
	req := Request{Recommendation: rec, Set: true, Yes: true, StageTime: time.Hour, Steps: []float64{50, 100}, Actor: "test"}
	if committing {
		req.StageTime = time.Second
	}
	type ended struct {
		out tune.Rollout
		err error
		at  time.Time
	}
	done := make(chan ended, 1)
	go func() {
		out, err := runner.Run(context.Background(), req, nil)
		done <- ended{out, err, time.Now()}
	}()
	if committing {
		<-held
		time.Sleep(300 * time.Millisecond) // the commit waits for the disk
	} else {
		b.until("17")
		time.Sleep(1200*time.Millisecond + time.Duration(rng.IntN(1000))*time.Millisecond) // anywhere in an interval
		atBreach()
	}
	if now := b.value(); now != "17" {
		b.t.Errorf("it is %s before the limit breaks", now)
	}
	h.begin()
	back := b.until(b.before)
	end := <-done
	if end.err != nil || end.out.State != tune.RolledBack || end.out.Reason != tune.ReasonLimit {
		b.t.Errorf("%s, %s (%s): %v", end.out.State, end.out.Reason, end.out.Detail, end.err)
	}
	return times{total: back.Sub(h.at), beyond: back.Sub(h.seen), over: end.at.Sub(h.seen)}
}

// until waits for a value and gives when it was there.
func (b *diskBench) until(want string) time.Time {
	b.t.Helper()
	for limit := time.Now().Add(20 * time.Second); b.value() != want; time.Sleep(200 * time.Microsecond) {
		if time.Now().After(limit) {
			b.thaw()
			b.t.Fatalf("%s is %s, waited for %s", finTimeout, b.value(), want)
		}
	}
	return time.Now()
}

// TestHungDiskDoesNotHoldARestore: the journal's file system is frozen at the moment a limit breaks, or
// while a commit waits for it, and stays so. The value is back, and the rollout over, while it is; then the
// guard is killed with nothing of it recorded, and the next one finds the original in place.
func TestHungDiskDoesNotHoldARestore(t *testing.T) {
	for name, committing := range map[string]bool{"in a slot": false, "while committing": true} {
		t.Run(name, func(t *testing.T) {
			b := newDiskBench(t)
			var hangs time.Time
			took := b.restore(rand.New(rand.NewPCG(1, 2)), committing, func() {
				b.freeze()
				hangs = time.Now()
			})
			time.Sleep(max(0, 3*time.Second-time.Since(hangs))) // the disk hangs on
			hung := time.Since(hangs)
			if took.beyond > hung/10 || took.over > hung/10 {
				t.Errorf("%+v after the limit broke, of %s that the disk hung", took, hung)
			}
			if err := unix.Kill(b.client.Pid(), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			b.thaw()
			<-b.client.Done()
			b.start() // recovers before it serves
			managed, err := b.client.Managed(t.Context())
			for _, m := range managed {
				// The commit was on its way when it was taken back: the journal may have it, the kernel has not.
				if !committing || m.State != "committed" {
					t.Errorf("after the guard was killed: %+v", m)
				}
			}
			if err != nil || b.value() != b.before {
				t.Errorf("after the guard was killed: %s, %v", b.value(), err)
			}
			for _, n := range b.client.Notes() {
				if strings.Contains(n, "was left at") {
					t.Errorf("something was left: %s", n)
				}
			}
		})
	}
}

// BenchmarkBreachToRestored measures from a broken limit to the original in the kernel, through the runner,
// the socket and the guard process, on an idle, a saturated and a hung disk. after-look is what comes beyond
// the sampling interval.
func BenchmarkBreachToRestored(bm *testing.B) {
	for _, disk := range []string{"idle", "saturated", "hung"} {
		bm.Run(disk, func(bm *testing.B) {
			b := newDiskBench(bm)
			rng := rand.New(rand.NewPCG(7, uint64(len(disk))))
			stop := func() {}
			if disk == "saturated" {
				stop = b.saturate(4)
			}
			var totals, beyonds, overs []time.Duration
			for bm.Loop() {
				atBreach := func() {}
				if disk == "hung" {
					atBreach = b.freeze
				}
				took := b.restore(rng, false, atBreach)
				b.thaw()
				totals, beyonds, overs = append(totals, took.total), append(beyonds, took.beyond), append(overs, took.over)
			}
			stop()
			report := func(x []time.Duration, what string) {
				slices.Sort(x)
				bm.ReportMetric(float64(x[len(x)/2].Microseconds())/1000, what+"-p50-ms")
				bm.ReportMetric(float64(x[len(x)-1].Microseconds())/1000, what+"-max-ms")
			}
			report(totals, "after-breach")
			report(beyonds, "after-look")
			report(overs, "over-after-look")
		})
	}
}
