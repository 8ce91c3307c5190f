package guard

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/host"
	"semantos/internal/tune"
)

// The test binary plays the guard and its parent too: real processes, so that they can be killed.
const (
	envRole = "SEMANTOS_TEST_ROLE"
	envData = "SEMANTOS_TEST_DATA"
	envRun  = "SEMANTOS_TEST_RUN"
	envSeed = "SEMANTOS_TEST_SEED"
	envSlow = "SEMANTOS_TEST_SLOW" // the fake latency of one write, so that kills fall between writes
	envTold = "SEMANTOS_TEST_TOLD" // where the guard's watch notes that it has begun; unset, nobody watches
)

func TestMain(m *testing.M) {
	switch os.Getenv(envRole) {
	case "guard":
		exit(helperGuard())
	case "parent":
		exit(helperParent())
	case "eater":
		exit(helperEater())
	case "teller":
		exit(helperTeller())
	case "actor":
		exit(helperActor())
	case "met-guard":
		exit(helperMetGuard())
	case "broken-guard":
		exit(Refuse(os.NewFile(3, "parent"), fmt.Errorf("load catalogue: %w", tune.ErrCorrupt)))
	}
	flag.Parse()
	// One seed for the property tests, so that a run can be repeated; make soak draws others.
	if f := flag.Lookup("rapid.seed"); f.Value.String() == f.DefValue && os.Getenv("SOAK") == "" {
		exitOn(f.Value.Set("20261124"))
	}
	os.Exit(m.Run())
}

func exitOn(err error) {
	if err != nil {
		exit(err)
	}
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// slowHost gives kills a chance to fall between the elements of a bundle.
type slowHost struct {
	deadlyHost
	delay time.Duration
}

func (h slowHost) Write(t *tune.Tunable, target string, v tune.Value) (tune.Value, error) {
	time.Sleep(h.delay)
	got, err := h.deadlyHost.Write(t, target, v)
	time.Sleep(h.delay)
	return got, err
}

func helperGuard() error {
	if err := limitFiles(); err != nil {
		return err
	}
	h := host.New(host.Config{})
	boot, err := h.BootID()
	if err != nil {
		return err
	}
	slow, _ := time.ParseDuration(os.Getenv(envSlow))
	cfg := Config{Socket: os.NewFile(3, "parent"), Actuator: slowHost{newDeadlyHost(h), slow},
		Catalogue: netCatalogue{}, DataDir: os.Getenv(envData), RunDir: os.Getenv(envRun), BootID: boot,
		LockWait: 1500 * time.Millisecond, Pace: 1e6, Now: time.Now}
	if told := os.Getenv(envTold); told != "" {
		cfg.Witness = &kernelWitness{host: h, told: told}
	}
	return Run(context.Background(), cfg)
}

// netCatalogue has three tunables of a network namespace.
type netCatalogue struct{}

func (netCatalogue) Lookup(name string) (*tune.Tunable, string, error) {
	for _, t := range []tune.Tunable{
		{Name: "net.ipv4.tcp_rmem", Kind: tune.KindVector, Of: tune.KindBytes, Arity: 3, Ordered: true},
		{Name: "net.ipv4.tcp_fin_timeout", Kind: tune.KindInteger},
		{Name: "net.core.somaxconn", Kind: tune.KindInteger},
		{Name: "net.core.rmem_max", Kind: tune.KindInteger},
		{Name: "net.ipv4.tcp_congestion_control", Kind: tune.KindEnum, Values: []string{"reno", "cubic"}},
	} {
		if t.Name == name {
			t.Scope, t.Method, t.Path = tune.ScopeNetns, tune.MethodSysctl, strings.ReplaceAll(name, ".", "/")
			return &t, "", nil
		}
	}
	return nil, "", fmt.Errorf("look up %s: %w", name, tune.ErrUnknown)
}

func (netCatalogue) Invariants([]tune.Change, func(string, string) (tune.Value, error)) []error {
	return nil
}

func netNames() []string {
	return []string{"net.ipv4.tcp_rmem", "net.ipv4.tcp_fin_timeout", "net.core.somaxconn"}
}

func readNet(name string) string {
	data, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return err.Error()
	}
	return string(tune.Canonical(string(data)))
}

func readAllNet() map[string]string {
	out := map[string]string{}
	for _, n := range netNames() {
		out[n] = readNet(n)
	}
	return out
}

func ownNetns() string {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("netns:%d", st.Ino)
}

// helperParent tries, commits and rolls back at random until it is killed, and tells what it is about
// to do before it does it.
func helperParent() error {
	seed, err := strconv.ParseUint(os.Getenv(envSeed), 10, 64)
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(seed, 17))
	ctx := context.Background()
	c, err := Start(ctx, StartConfig{Env: roleEnv("guard"), Stderr: os.Stderr})
	if err != nil {
		return err
	}
	go func() {
		<-c.Done()
		fmt.Println("lost")
		os.Exit(1)
	}()
	fmt.Println("ready", c.Pid())
	target := ownNetns()
	for i := 0; ; i++ {
		id := fmt.Sprintf("r%d-%d", seed, i)
		values := map[string]string{
			netNames()[0]: fmt.Sprintf("4096 %d %d", 65536+4096*rng.IntN(8), 1<<20+4096*rng.IntN(256)),
			netNames()[1]: strconv.Itoa(10 + rng.IntN(40)),
			netNames()[2]: strconv.Itoa(16 + rng.IntN(1000)),
		}
		var bundle []tune.Change
		for _, n := range netNames() {
			bundle = append(bundle, tune.Change{Tunable: n, Target: target, Proposed: tune.Value(values[n])})
		}
		if _, err := c.Apply(ctx, id, bundle, "test"); err != nil {
			return err
		}
		if os.Getenv(envSeed) == "0" { // one trial, held open
			fmt.Println("applied")
			time.Sleep(time.Hour)
		}
		if rng.IntN(2) == 0 {
			if _, err := c.Revert(ctx, id); err != nil {
				return err
			}
			if _, err := c.Apply(ctx, id, bundle, "test"); err != nil {
				return err
			}
		}
		if rng.IntN(2) == 0 {
			told, err := json.Marshal(values)
			if err != nil {
				return err
			}
			fmt.Println("commit", string(told))
			if err := c.Commit(ctx, id); err != nil {
				return err
			}
			fmt.Println("committed")
			time.Sleep(time.Duration(rng.IntN(10)) * time.Millisecond)
			fmt.Println("rollback")
		}
		if _, err := c.Rollback(ctx, id, "test"); err != nil {
			return err
		}
		fmt.Println("back")
	}
}

func roleEnv(role string, extra ...string) []string {
	return append(append(os.Environ(), envRole+"="+role), extra...)
}

// stage is one fresh network namespace with folders of its own, and a parent with its guard in it.
type stage struct {
	t       *testing.T
	data    string
	run     string
	witness string // where the guard's watch notes that it has begun; "" for none
	before  map[string]string
	cmd     *exec.Cmd
	guard   int
	lines   chan string
}

// newStage moves the test's thread into a fresh namespace; children started from it are in it too.
func newStage(t *testing.T) *stage {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a network namespace of its own")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("needs root: unshare: %v", err)
	}
	return &stage{t: t, data: t.TempDir(), run: t.TempDir(), before: readAllNet()}
}

func (s *stage) env(role string, extra ...string) []string {
	return roleEnv(role, append([]string{envData + "=" + s.data, envRun + "=" + s.run, envTold + "=" + s.witness}, extra...)...)
}

// startParent runs the parent helper and waits until its guard serves.
func (s *stage) startParent(seed uint64, slow time.Duration) {
	s.t.Helper()
	s.startRole("parent", envSeed+"="+strconv.FormatUint(seed, 10), envSlow+"="+slow.String())
}

func (s *stage) startRole(role string, extra ...string) {
	s.t.Helper()
	s.cmd = exec.Command(os.Args[0])
	s.cmd.Env = s.env(role, extra...)
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.lines = make(chan string, 100000)
	go func() {
		defer close(s.lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			s.lines <- sc.Text()
		}
	}()
	line := <-s.lines
	if _, err := fmt.Sscanf(line, "ready %d", &s.guard); err != nil {
		s.t.Fatalf("parent said %q", line)
	}
}

// told reads all that the parent said before it died: what may stand now, and whether it must.
func (s *stage) told() (allowed []map[string]string) {
	allowed = []map[string]string{s.before}
	var tried map[string]string
	for line := range s.lines {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "commit":
			tried = map[string]string{}
			if err := json.Unmarshal([]byte(rest), &tried); err != nil {
				s.t.Fatalf("parent said %q: %v", line, err)
			}
			allowed = []map[string]string{s.before, tried}
		case "committed":
			allowed = []map[string]string{tried}
		case "rollback":
			allowed = []map[string]string{s.before, tried}
		case "back":
			allowed = []map[string]string{s.before}
		}
	}
	return allowed
}

// check compares what stands with what may stand. Only a rollback cut in the middle may leave some of
// both, which asking again ends.
func (s *stage) check(when string, allowed []map[string]string) {
	s.t.Helper()
	now := readAllNet()
	for _, n := range netNames() {
		ok := false
		for _, a := range allowed {
			ok = ok || now[n] == a[n]
		}
		if !ok {
			s.t.Errorf("%s: %s is %q, which is none of %v", when, n, now[n], allowed)
		}
	}
}

// recover is what the next command does: start a guard, which restores before it serves.
func (s *stage) recover() []string {
	s.t.Helper()
	c, err := Start(s.t.Context(), StartConfig{Env: s.env("guard"), Stderr: os.Stderr})
	if err != nil {
		s.t.Fatalf("recover: %v", err)
	}
	notes := c.Notes()
	if err := c.Close(); err != nil {
		s.t.Fatalf("recover: %v", err)
	}
	return notes
}

// waitUnlocked waits until no guard lives, and tells how long that took.
func (s *stage) waitUnlocked(limit time.Duration) time.Duration {
	s.t.Helper()
	start := time.Now()
	for guardAlive(s.run) {
		if time.Since(start) > limit {
			s.t.Fatalf("guard still lives after %v", limit)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return time.Since(start)
}
