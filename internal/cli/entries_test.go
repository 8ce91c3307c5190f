package cli_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"semantos/internal/host"
	"semantos/internal/host/hosttest"
	"semantos/internal/tune"
	"semantos/kb"
)

// tooMuch are entries this test leaves alone on a living machine, each with its reason.
var tooMuch = map[string]string{
	"mm/hugepages/hugepages-1048576kB/nr_hugepages": "asks a living machine for a whole GiB in one piece",
}

// refusable are entries whose file some kernels offer without taking any other value. Where one does
// take it, all the rest must hold.
var refusable = map[string]string{
	"block/{device}/queue/io_poll":                             "the driver has no queues to poll",
	"block/{device}/queue/io_poll_delay":                       "ignored since Linux 6.4",
	"mm/hugepages/hugepages-1048576kB/nr_overcommit_hugepages": "this kernel makes no such pages on demand",
	"net.core.max_skb_frags":                                   "this kernel is built for no more",
}

// words are the values worth trying for free text, where no neighbour can be computed.
var words = map[string][]string{
	"net.core.default_qdisc":                             {"pfifo_fast", "fq_codel", "fq", "pfifo"},
	"net.ipv4.tcp_congestion_control":                    {"reno", "cubic"},
	"net.ipv4.ip_local_reserved_ports":                   {"40000", "40000-40001"},
	"module/zswap/compressor":                            {"lzo-rle", "lzo", "lz4", "zstd", "deflate"},
	"cgroup/cpuset.cpus":                                 {"0"},
	"cgroup/cpuset.mems":                                 {"0"},
	"cgroup/cpu.uclamp.min":                              {"1.00", "2.00"},
	"cgroup/cpu.uclamp.max":                              {"99.00", "98.00"},
	"cpu/{device}/cpufreq/energy_performance_preference": {"balance_performance", "performance"},
}

// instance is one entry on one target.
type instance struct {
	t      *tune.Tunable
	target string
}

func (i instance) String() string {
	if i.t.Templated() || i.t.Scope == tune.ScopeHost {
		return i.t.Instance(i.target)
	}
	return i.t.Name + "@" + i.target
}

// machine is this host, with targets of the test's own where the scope allows any.
type machine struct {
	h       *host.Host
	cat     *kb.Catalogue
	facts   tune.Facts
	byName  map[string]*tune.Tunable
	ns      *hosttest.Namespace
	targets map[tune.Scope][]string // preferred ones first; devices of all kinds together
	watched []instance
}

// TestEveryEntry writes a neighbouring value to each entry of the catalogue on this machine, and looks at
// all other readable ones: only what the entry announces may move, and all of it can be put back.
func TestEveryEntry(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: writes the tunables of this machine")
	}
	hosttest.Alone(t)
	m := newMachine(t)
	first := m.snapshot(m.watched)
	t.Cleanup(func() { m.leave(t, first) })
	m.watched = slices.Collect(maps.Keys(first))
	done, skipped, filtered := 0, map[string][]string{}, false
	for _, e := range m.cat.All() {
		in, why := m.choose(e)
		if why == "" {
			ran := false
			t.Run(e.Name, func(t *testing.T) {
				ran = true
				if why = m.exercise(t, in); why != "" {
					t.Skip(why)
				}
			})
			if !ran { // by -run
				filtered = true
				continue
			}
		}
		if why != "" {
			skipped[why] = append(skipped[why], e.Name)
			continue
		}
		done++
	}
	t.Logf("%d instances watched, %d of %d entries exercised", len(m.watched), done, len(m.cat.All()))
	for _, why := range slices.Sorted(maps.Keys(skipped)) {
		t.Logf("%d left out, %s: %s", len(skipped[why]), why, strings.Join(skipped[why], " "))
	}
	if done < 100 && !filtered {
		t.Errorf("only %d entries were exercised: the targets of the test are not reached", done)
	}
}

// choose gives the target to exercise, or the reason against it.
func (m *machine) choose(e *tune.Tunable) (instance, string) {
	switch {
	case e.Protected:
		return instance{}, "protected"
	case e.TakesEffect == tune.Reboot:
		return instance{}, "takes effect at boot"
	case tooMuch[e.Name] != "":
		return instance{}, tooMuch[e.Name]
	}
	why := "absent here"
	for _, in := range m.instances(e) {
		var c tune.Capability
		m.on(in, func() { c = m.h.Probe(e, in.target) })
		switch {
		case c.Writable:
			return in, ""
		case c.Readable:
			why = "read-only here"
		case c.Present:
			why = "unreadable here"
		}
	}
	return instance{}, why
}

// instances lists the test's targets for an entry, whether present or not.
func (m *machine) instances(e *tune.Tunable) []instance {
	var out []instance
	if !e.Templated() {
		for _, target := range m.targets[e.Scope] {
			if e.Scope != tune.ScopeSocket || strings.HasPrefix(target, "tcp:") == (e.Method == tune.MethodBacklog) {
				out = append(out, instance{e, target})
			}
		}
		return out
	}
	present, err := m.h.Targets(e)
	if err != nil {
		return nil
	}
	others := make([]instance, 0, len(present))
	for _, target := range present {
		device, _, _ := strings.Cut(target, "/")
		if slices.Contains(m.targets[tune.ScopeDevice], device) {
			out = append(out, instance{e, target})
		} else {
			others = append(others, instance{e, target})
		}
	}
	slices.SortStableFunc(out, func(a, b instance) int { return m.rank(a) - m.rank(b) })
	return append(out, others[:min(len(others), moreDevices)]...)
}

// moreDevices bounds how many devices are watched beside the preferred ones.
const moreDevices = 4

// rank is the place of the instance's device among the preferred ones.
func (m *machine) rank(in instance) int {
	device, _, _ := strings.Cut(in.target, "/")
	return slices.Index(m.targets[tune.ScopeDevice], device)
}

// own reports whether nobody but this test feels the instance.
func (m *machine) own(in instance) bool {
	return in.t.Scope == tune.ScopeCgroup || in.t.Scope == tune.ScopeSocket || in.target == m.ns.Target
}

// on calls fn where the instance's files show its own values.
func (m *machine) on(in instance, fn func()) {
	if in.t.Scope == tune.ScopeNetns && in.target == m.ns.Target {
		m.ns.Do(fn)
		return
	}
	fn()
}

// snapshot reads the given instances; what cannot be read is left out.
func (m *machine) snapshot(of []instance) map[instance]tune.Value {
	out := make(map[instance]tune.Value, len(of))
	read := func(inside bool) {
		for _, in := range of {
			if (in.t.Scope == tune.ScopeNetns && in.target == m.ns.Target) != inside {
				continue
			}
			if v, err := m.h.Read(in.t, in.target); err == nil {
				out[in] = v
			}
		}
	}
	read(false)
	m.ns.Do(func() { read(true) })
	return out
}

// moved lists what differs between two snapshots; what is in one of them only counts too.
func moved(a, b map[instance]tune.Value) map[instance]string {
	out := map[instance]string{}
	for in, v := range a {
		if w, ok := b[in]; !ok {
			out[in] = fmt.Sprintf("%q, then unreadable", v)
		} else if w != v {
			out[in] = fmt.Sprintf("%q, then %q", v, w)
		}
	}
	for in, w := range b {
		if _, ok := a[in]; !ok {
			out[in] = fmt.Sprintf("unreadable, then %q", w)
		}
	}
	return out
}

// announced reports whether a write to in may move other.
func announced(in, other instance) bool {
	if other.t.Scope == in.t.Scope && other.target != in.target {
		return false
	}
	name := other.t.Name
	return name == in.t.Name || name == in.t.Counterpart || slices.Contains(in.t.AlsoChanges, name)
}

// exercise tries an instance and judges what moved. A machine has other users: what moves unannounced
// or stays moved counts when it does so each time. It returns why nothing could be tried.
func (m *machine) exercise(t *testing.T, in instance) string {
	var side, stayed map[instance]string
	for try := range 3 {
		before := m.snapshot(m.watched)
		after, why, err := m.write(in, before)
		if why != "" && err == nil {
			return why
		}
		restoreErr := m.restore(in, before)
		end := m.snapshot(m.watched)
		s, r := moved(before, after), moved(before, end)
		maps.DeleteFunc(s, func(other instance, _ string) bool { return announced(in, other) })
		if try == 0 {
			side, stayed = s, r
		}
		maps.DeleteFunc(side, func(other instance, _ string) bool { return s[other] == "" })
		maps.DeleteFunc(stayed, func(other instance, _ string) bool { return r[other] == "" })
		m.putBack(t, before, r)
		if err = errors.Join(err, restoreErr); err != nil {
			t.Errorf("%s: %v", in, err)
			return ""
		}
		if len(side) == 0 && len(stayed) == 0 {
			return ""
		}
	}
	for other, how := range side {
		t.Errorf("a write to %s moved %s, which is not in also_changes: %s", in, other, how)
	}
	for other, how := range stayed {
		t.Errorf("after %s was put back, %s stays moved: %s", in, other, how)
	}
	return ""
}

// write gives the instance the first of its neighbours that the kernel takes and keeps, and reads
// everything.
func (m *machine) write(in instance, before map[instance]tune.Value) (map[instance]tune.Value, string, error) {
	old := before[in]
	tries, why := m.neighbours(in, old)
	if why != "" {
		return nil, why, nil
	}
	var refused []error
	for _, v := range tries {
		var got tune.Value
		var err error
		m.on(in, func() { got, err = m.h.Write(in.t, in.target, v) })
		if err != nil {
			refused = append(refused, fmt.Errorf("%q: %w", v, err))
			continue
		}
		if got == old {
			refused = append(refused, fmt.Errorf("%q: rounded to what it was", v))
			continue
		}
		after := m.snapshot(m.watched)
		if after[in] != got {
			return after, "", fmt.Errorf("write of %q read back %q, but it reads %q", v, got, after[in])
		}
		return after, "", nil
	}
	if why := m.excuse(in, refused); why != "" {
		return before, why, m.untouched(before)
	}
	return before, "", fmt.Errorf("it is %q, and the kernel takes no neighbour: %w", old, errors.Join(refused...))
}

// excuse says why a refusal of every value is no fault of the entry, or nothing.
func (m *machine) excuse(in instance, refused []error) string {
	for _, err := range refused {
		if !errors.Is(err, tune.ErrUnsupported) {
			return refusable[in.t.Name]
		}
	}
	return "the driver does not support it"
}

// untouched checks that refused writes left no trace.
func (m *machine) untouched(before map[instance]tune.Value) error {
	var errs []error
	for in, how := range moved(before, m.snapshot(m.watched)) {
		errs = append(errs, fmt.Errorf("refused writes moved %s: %s", in, how))
	}
	return errors.Join(errs...)
}

// restore puts the instance back as a rollback does: with its pair, then what it moved beside.
func (m *machine) restore(in instance, before map[instance]tune.Value) error {
	var err error
	m.on(in, func() {
		if in.t.Counterpart != "" {
			pair := instance{m.byName[in.t.Counterpart], in.target}
			_, err = m.h.RestorePair(in.t, in.target, before[in], before[pair])
			return
		}
		_, err = m.h.Restore(in.t, in.target, before[in])
	})
	for other, v := range before {
		if other == in || other.t.Name == in.t.Counterpart || !announced(in, other) {
			continue
		}
		m.on(other, func() {
			if now, readErr := m.h.Read(other.t, other.target); readErr == nil && now == v {
				return
			}
			if _, otherErr := m.h.Restore(other.t, other.target, v); otherErr != nil {
				err = errors.Join(err, fmt.Errorf("beside it: %w", otherErr))
			}
		})
	}
	return err
}

// putBack sets right what a restore left: the next trial and the machine need it.
func (m *machine) putBack(t testing.TB, was map[instance]tune.Value, left map[instance]string) {
	t.Helper()
	for in := range left {
		v, ok := was[in]
		if !ok {
			continue
		}
		m.on(in, func() {
			_, err := m.h.Restore(in.t, in.target, v)
			if err != nil && !errors.Is(err, host.ErrRestoreCounterpart) {
				t.Errorf("%s does not go back to %q: %v", in, v, err)
			}
		})
	}
}

// leave makes sure the machine is as the test found it.
func (m *machine) leave(t *testing.T, first map[instance]tune.Value) {
	last := m.snapshot(m.watched)
	left := moved(first, last)
	for in, how := range left {
		t.Errorf("%s was left changed: %s", in, how)
	}
	m.putBack(t, first, left)
}

// neighbours lists values near the old one, nearest first, all of them inside the hard and the safe
// range; or says why there is none. What only this test feels may leave the safe range.
func (m *machine) neighbours(in instance, old tune.Value) ([]tune.Value, string) {
	e := in.t
	var texts []string
	switch {
	case e.Kind == tune.KindText:
		texts = words[e.Name]
	case e.Kind == tune.KindEnum:
		texts = e.Values
	case e.Kind == tune.KindBitmask:
		texts = masks(old)
	default:
		safe, err := m.cat.Safe(e, m.facts)
		if err != nil {
			return nil, "no safe range: " + err.Error()
		}
		texts = nearNumbers(e, old, safe)
		if m.own(in) {
			texts = append(texts, nearNumbers(e, old, e.Hard)...)
		}
	}
	var out []tune.Value
	for _, text := range texts {
		v, err := e.Parse(text)
		if err == nil && v != old && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	if len(out) == 0 {
		return nil, "no second safe value"
	}
	return out, ""
}

// masks turns one bit at a time, from the third: what the lowest mean is mostly the whole feature.
func masks(old tune.Value) []string {
	text := strings.TrimPrefix(strings.ReplaceAll(string(old), ",", ""), "0x")
	bits, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		return nil
	}
	var out []string
	for _, bit := range []uint64{4, 2, 1} {
		out = append(out, strconv.FormatUint(bits^bit, 16))
	}
	return out
}

// nearNumbers changes one element at a time, from the last.
func nearNumbers(e *tune.Tunable, old tune.Value, safe []tune.Range) []string {
	fields := old.Fields()
	var out []string
	for i := len(fields) - 1; i >= 0; i-- {
		r := safe[min(i, len(safe)-1)]
		for _, n := range near(e, fields[i], r) {
			if n < r.Min || n > r.Max || n != math.Trunc(n) {
				continue
			}
			next := slices.Clone(fields)
			next[i] = tune.FormatNumber(n)
			out = append(out, strings.Join(next, " "))
		}
	}
	return out
}

func near(e *tune.Tunable, element string, r tune.Range) []float64 {
	var out []float64
	const exact = 1 << 53 // beyond it a step of one is lost
	cur, err := strconv.ParseFloat(element, 64)
	if _, special := e.SpecialOf(element); err == nil && !special && math.Abs(cur) < exact {
		out = append(out, cur+1, cur-1)
		if e.Kind == tune.KindBytes || e.Of == tune.KindBytes {
			out = append(out, cur+4096, cur-4096)
		}
		out = append(out, math.Trunc(cur+cur/16), math.Trunc(cur-cur/16), cur*2, math.Trunc(cur/2))
	}
	if r.Max < exact {
		out = append(out, r.Max-1, r.Max)
	}
	return append(out, math.Trunc(r.Min/2+r.Max/2), math.Ceil(r.Min), math.Ceil(r.Min)+1, math.Ceil(r.Min)*2)
}
