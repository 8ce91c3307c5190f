package expr

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"semantos/internal/tune"
)

func vars() Vars {
	current := map[string]tune.Value{"vm.dirty_bytes": "1048576", "net.ipv4.tcp_rmem": "4096 131072 16384", "mm/thp": "madvise"}
	return Vars{
		S:     map[string]float64{"tcp.listen_overflows": 12.5},
		E:     map[string]float64{"listener.queue": 8},
		Label: map[string]string{"comm": "nginx"},
		Facts: tune.Facts{Num: map[string]float64{"mem_total_bytes": 1 << 34}, Text: map[string]string{"virt": "kvm"}},
		Current: func(n string) (tune.Value, error) {
			if v, ok := current[n]; ok {
				return v, nil
			}
			return "", fmt.Errorf("read %s: %w", n, tune.ErrUnsupported)
		},
		Default: func(string) (tune.Value, error) { return "4096 131072 6291456", nil },
	}
}

func compile(t *testing.T, src string, k Kind) *Program {
	t.Helper()
	env, err := New()
	if err != nil {
		t.Fatal(err)
	}
	p, err := env.Compile(src, k)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestBool(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]bool{
		`s["tcp.listen_overflows"] > 10 && e["listener.queue"] >= 8`: true,
		`label["comm"] == "nginx" && text["virt"] != "none"`:         true,
		`cur("net.ipv4.tcp_rmem", 2) < dflt("net.ipv4.tcp_rmem", 2)`: true,
		`has_s("x") || has_e("y") || has_cur("nothing")`:             false,
		`has_s("tcp.listen_overflows") && has_cur("vm.dirty_bytes")`: true,
		`curtext("mm/thp") in ["madvise", "never"]`:                  true,
		`facts["mem_total_bytes"] / 1024 > 3 ? true : false`:         true,
		`[1, 2, 3][1] == 2`:              true,
		`has_s("gone") && s["gone"] > 1`: false,
	} {
		got, err := compile(t, src, Bool).Bool(vars())
		if err != nil || got != want {
			t.Errorf("%s = %v, %v; want %v", src, got, err, want)
		}
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	for src, want := range map[string][]string{
		`[cur("net.ipv4.tcp_rmem", 0), cur("net.ipv4.tcp_rmem", 1), max(6291456, 4 * 1048576)]`: {"4096", "131072", "6291456"},
		`"never"`: {"never"},
		`clamp(facts["mem_total_bytes"] * 0.2, 1, 4294967296)`: {"3435973837"},
		`pow2(5000)`:                    {"8192"},
		`roundto(1234.0, 100)`:          {"1200"},
		`["max", 100000]`:               {"max", "100000"},
		`min(7, 3) + abs(-2) - log2(8)`: {"2"},
	} {
		got, err := compile(t, src, Value).Values(vars())
		if err != nil {
			t.Errorf("%s: %v", src, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", src, diff)
		}
	}
}

func TestNoData(t *testing.T) {
	t.Parallel()
	for _, src := range []string{`s["gone"] > 1`, `e["gone"] > 1 && s["tcp.listen_overflows"] > 1`, `cur("gone") > 1`,
		`cur("net.ipv4.tcp_rmem", 7) > 1`, `cur("mm/thp") > 1`} {
		if _, err := compile(t, src, Bool).Bool(vars()); !errors.Is(err, tune.ErrNoData) {
			t.Errorf("%s: %v, want no data", src, err)
		}
	}
	if _, err := compile(t, `1 / (s["tcp.listen_overflows"] - 12.5)`, Number).Number(vars()); !errors.Is(err, tune.ErrNoData) {
		t.Errorf("division by zero: %v, want no data", err)
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	env, err := New()
	if err != nil {
		t.Fatal(err)
	}
	for src, kind := range map[string]Kind{`s["x"] >`: Bool, `s["x"]`: Bool, `nothing("x")`: Number, `"word"`: Number,
		`true`: Value, `x > 1`: Bool, `s["a"] == "b"`: Bool} {
		if _, err := env.Compile(src, kind); !errors.Is(err, tune.ErrType) {
			t.Errorf("%s: %v, want a type error", src, err)
		}
	}
}

func TestRefs(t *testing.T) {
	t.Parallel()
	p := compile(t, `s["a"] > 1 && e["b"] < cur("vm.x", 1) && label["comm"] == "y" && has_s("z")`, Bool)
	want := []Ref{{"s", "a"}, {"e", "b"}, {"cur", "vm.x"}, {"label", "comm"}, {"has_s", "z"}}
	if diff := cmp.Diff(want, p.Refs()); diff != "" {
		t.Error(diff)
	}
}

func FuzzCompile(f *testing.F) {
	f.Add(`s["a"] > 1`)
	f.Add(`[cur("x", 0), 2][1]`)
	env, err := New()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, src string) {
		if p, err := env.Compile(src, Value); err == nil {
			_, _ = p.Values(vars())
		}
	})
}
