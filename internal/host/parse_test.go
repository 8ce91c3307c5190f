package host

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"semantos/internal/tune"
)

func TestChosen(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"always [madvise] never\n":     "madvise",
		"[none] mq-deadline\n":         "none",
		"none voluntary (full) lazy\n": "full",
		"none\n":                       "none",
		"write back\n":                 "",
		"":                             "",
		"[]":                           "",
		"a [b":                         "",
		"[a b] c":                      "",
	} {
		if got, ok := chosen(text); got != want || ok != (want != "") {
			t.Errorf("%q gave %q, %v; want %q", text, got, ok, want)
		}
	}
}

func TestCountsSockets(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"sockets: used 9\nTCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0\nUDP: inuse 0 mem 0\nRAW: inuse 3\n": false,
		"sockets: used 9\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 0\n":                                   true,
		"TCP: inuse 0 orphan 0 tw 40 alloc 0 mem 0\n":                                                   true,
		"TCP6: inuse 0\nUDP6: inuse 2\n":                                                                true,
		"TCP: inuse\n\nFRAG: inuse 4 memory 1\n":                                                        false,
		"":                                                                                              false,
	} {
		if got := countsSockets(text); got != want {
			t.Errorf("%q gave %v, want %v", text, got, want)
		}
	}
}

func FuzzChosen(f *testing.F) {
	f.Add("always [madvise] never")
	f.Add("none (full)")
	f.Add("(0\v0)0")
	f.Fuzz(func(t *testing.T, text string) {
		word, ok := chosen(text)
		if ok != (word != "") || ok && (!strings.Contains(text, word) || len(strings.Fields(word)) != 1) {
			t.Errorf("%q gave %q, %v", text, word, ok)
		}
	})
}

func TestParseMounts(t *testing.T) {
	t.Parallel()
	got := parseMounts("32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct\n" +
		"garbage\n40 31 0:38 /docker/x /a\\040b rw - cgroup2 none rw\n41 1 0:3 / /c rw - tmpfs\n")
	want := []mount{
		{Root: "/", Point: "/sys/fs/cgroup/cpu", Type: "cgroup", Options: []string{"rw", "cpu", "cpuacct"}},
		{Root: "/docker/x", Point: "/a b", Type: "cgroup2", Options: []string{"rw"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add("32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:1 - cgroup cgroup rw,cpu\n")
	f.Add("1 2 3 \\04 \\777 x - y z")
	f.Fuzz(func(t *testing.T, text string) {
		if n := len(parseMounts(text)); n > strings.Count(text, "\n")+1 {
			t.Errorf("%d mounts in %q", n, text)
		}
	})
}

func TestHierarchyDir(t *testing.T) {
	t.Parallel()
	inside := hierarchy{point: "/sys/fs/cgroup", root: "/docker/x"}
	for cgroup, want := range map[string]string{"/docker/x": "/sys/fs/cgroup", "/docker/x/a": "/sys/fs/cgroup/a", "/docker/xy": "", "/a": ""} {
		if got, ok := inside.dir(cgroup); got != want || ok != (want != "") {
			t.Errorf("%s gave %q, %v", cgroup, got, ok)
		}
	}
}

func TestSocketTarget(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"tcp:0.0.0.0:8088;netns=4026531840;cookie=4f",
		"udp:[::1]:53;netns=1;cookie=ffffffffffffffff",
		"tcp:[::ffff:10.0.0.1]:80;netns=2;cookie=0",
	} {
		s, err := ParseSocketTarget(text)
		if err != nil || s.String() != text {
			t.Errorf("%s gave %s, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "tcp:80", "sctp:0.0.0.0:1;netns=1;cookie=1", "tcp:0.0.0.0:1;netns=-1;cookie=1",
		"tcp:0.0.0.0:1;cookie=1;netns=1", "tcp:0.0.0.0:99999;netns=1;cookie=1", "tcp:[fe80::1%eth0]:1;netns=1;cookie=1",
		"tcp:0.0.0.0:1;netns=1;cookie=1;x=1", "tcp:localhost:1;netns=1;cookie=1"} {
		if s, err := ParseSocketTarget(text); !errors.Is(err, tune.ErrUsage) {
			t.Errorf("%q gave %v, %v", text, s, err)
		}
	}
}

func FuzzSocketTarget(f *testing.F) {
	f.Add("tcp:0.0.0.0:8088;netns=4026531840;cookie=4f")
	f.Add("udp:[::1]:53;netns=1;cookie=0A")
	f.Add("tcp:8088;netns=5")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSocketTarget(text)
		if err == nil {
			if again, err := ParseSocketTarget(s.String()); err != nil || again != s {
				t.Errorf("%q became %s, which reads %v, %v", text, s, again, err)
			}
		}
		w, wishErr := parseSocketWish(text)
		if err == nil && (wishErr != nil || !w.fits(s)) && s.Netns != 0 {
			t.Errorf("the wish %q does not fit itself: %v, %v", text, w, wishErr)
		}
		if wishErr == nil && w.port == 0 && err != nil {
			t.Errorf("%q is no port", text)
		}
	})
}

func FuzzDiag(f *testing.F) {
	f.Add(make([]byte, 80))
	f.Add(append(make([]byte, 72), 40, 0, 7, 0, 1, 2, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, ok := parseDiag(b); ok != (len(b) >= inetDiagMsgLen) {
			t.Errorf("%d bytes: %v", len(b), ok)
		}
	})
}

func FuzzStartTime(f *testing.F) {
	f.Add("42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 1 2")
	f.Fuzz(func(t *testing.T, text string) {
		if start, err := startTime(text); err == nil && !strings.Contains(text, start) {
			t.Errorf("%q gave %q", text, start)
		}
	})
}

func TestSameValue(t *testing.T) {
	t.Parallel()
	mask := &tune.Tunable{Kind: tune.KindBitmask}
	num := &tune.Tunable{Kind: tune.KindInteger}
	for _, c := range []struct {
		t    *tune.Tunable
		a, b tune.Value
		want bool
	}{
		{mask, "00000000,00000003", "3", true}, {mask, "0xF", "f", true}, {mask, "0", "00000000", true}, {mask, "3", "5", false},
		{num, "Y", "1", true}, {num, "N", "1", false}, {num, "+5", "5", true}, {num, "1 2", "1", false}, {num, "max", "max", true}, {num, "max", "1", false},
	} {
		if got := sameValue(c.t, c.a, c.b); got != c.want {
			t.Errorf("%q and %q: %v", c.a, c.b, got)
		}
	}
}

// kernel is an access that refuses or alters as it is told.
type kernel struct {
	now    tune.Value
	take   func(v tune.Value) (tune.Value, error) // what a write makes of the value
	writes int
}

func (k *kernel) read() (tune.Value, error) { return k.now, nil }
func (k *kernel) probe() error              { return nil }
func (k *kernel) write(v tune.Value) error {
	k.writes++
	now, err := k.take(v)
	k.now = now
	return err
}

func TestUndo(t *testing.T) {
	t.Parallel()
	vector := &tune.Tunable{Name: "v", Scope: tune.ScopeHost, Method: tune.MethodSysfs, Kind: tune.KindVector, Of: tune.KindInteger, Arity: 3}
	h := New(Config{Root: t.TempDir()})
	broken := errors.New("broken")

	half := &kernel{now: "1 2 3"}
	undo := h.undo(vector, "host", half, "1 2 3")
	half.now, half.take = "8 9 3", func(v tune.Value) (tune.Value, error) { return v, nil }
	if err := undo(); err != nil || half.now != "1 2 3" || half.writes != 1 {
		t.Errorf("undo gave %v, reads %q after %d writes", err, half.now, half.writes)
	}
	if err := undo(); err != nil || half.writes != 1 {
		t.Errorf("a second undo wrote again: %v, %d writes", err, half.writes)
	}

	stuck := &kernel{now: "8 9 3", take: func(tune.Value) (tune.Value, error) { return "8 9 3", broken }}
	err := h.undo(vector, "host", stuck, "1 2 3")()
	if !errors.Is(err, broken) || !errors.Is(err, tune.ErrDrifted) || !strings.Contains(err.Error(), `now reads "8 9 3"`) || !strings.Contains(err.Error(), `was "1 2 3"`) {
		t.Errorf("an undo that fails says %v", err)
	}
}

func TestWriteVerified(t *testing.T) {
	t.Parallel()
	size := &tune.Tunable{Name: "n", Scope: tune.ScopeHost, Kind: tune.KindInteger}
	kib := &tune.Tunable{Name: "k", Scope: tune.ScopeHost, Kind: tune.KindInteger, Unit: "KiB"}
	queue := &tune.Tunable{Name: "q", Scope: tune.ScopeHost, Kind: tune.KindInteger, Method: tune.MethodBacklog}
	word := &tune.Tunable{Name: "w", Scope: tune.ScopeHost, Kind: tune.KindEnum}
	for _, c := range []struct {
		name      string
		t         *tune.Tunable
		old, v    tune.Value
		makes     tune.Value
		want      tune.Value
		sentinels error
	}{
		{"taken", size, "1", "100", "100", "100", nil},
		{"rounded", size, "1", "101", "100", "100", nil},
		{"clamped", size, "1", "5000", "4096", "4096", nil},
		{"rounded to the old", size, "100", "102", "100", "100", nil},
		{"ignored", size, "100", "500", "100", "", tune.ErrOutOfRange},
		{"page of kibibytes", kib, "4", "6", "4", "4", nil},
		{"small and ignored", size, "4", "6", "4", "", tune.ErrOutOfRange},
		{"limited backlog", queue, "8", "9", "8", "", tune.ErrOutOfRange},
		{"another word", word, "a", "b", "c", "", tune.ErrOutOfRange},
		{"ignored word", word, "a", "b", "a", "", tune.ErrOutOfRange},
	} {
		k := &kernel{now: c.old, take: func(tune.Value) (tune.Value, error) { return c.makes, nil }}
		got, err := writeVerified(c.t, "host", k, c.old, c.v)
		if got != c.want || !errors.Is(err, c.sentinels) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}

// TestDiscardedLeavesTheMainThread would see /proc/self change its namespace if the main thread moved.
func TestDiscardedLeavesTheMainThread(t *testing.T) {
	t.Parallel()
	before, err := netnsInode("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for range 64 {
		done := make(chan struct{})
		go discarded(func() { close(done) })
		<-done
	}
	if after, err := netnsInode("/proc/self/ns/net"); err != nil || after != before {
		t.Errorf("the main thread is in %d, was in %d: %v", after, before, err)
	}
}
