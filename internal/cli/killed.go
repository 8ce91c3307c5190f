package cli

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"semantos/internal/host"
	"semantos/internal/tune"
	"semantos/safety/rollout"
)

// killed tells the kernel's kills apart: a host without memory from a control group at its own limit, and
// a group the trial touches from a stranger's. Which is which stands in the kernel log only; what cannot
// be told counts.
type killed struct {
	list  func() ([]host.Kill, error)
	ours  func(host.Kill) bool
	state logState
	total float64            // kills at the last look
	seq   uint64             // of the newest kill in the log then
	usual map[string]float64 // by group, before the trial
	apart map[string]float64 // by group, strangers' since then
}

// logState is how far the kernel log can be believed to be whole.
type logState int

const (
	unread logState = iota
	followed
	lost // it could not be read once: from then on every kill counts
)

func newKilled(h *host.Host, changes []tune.Change, meter rollout.Meter) *killed {
	return &killed{list: h.Kills, ours: func(k host.Kill) bool { return touches(h, k, changes, meter) },
		usual: map[string]float64{}, apart: map[string]float64{}}
}

// look gives the kills that count whoever was hit, and beside them each stranger's group. The log is read
// at the first look, and then only when there was a kill.
func (k *killed) look(ctx context.Context, total float64) []rollout.Vital {
	all := rollout.Vital{Name: vitalKills, Kind: rollout.Count, Value: total}
	if k == nil {
		return []rollout.Vital{all}
	}
	if k.state == unread || k.state == followed && total > k.total {
		first := k.state == unread
		for _, one := range k.read(ctx) {
			switch {
			case first:
				k.usual[one.Group]++
			case !k.ours(one):
				k.apart[one.Group]++
			}
		}
	}
	k.total = total
	out := []rollout.Vital{all}
	for _, group := range slices.Sorted(maps.Keys(k.apart)) {
		out[0].Value -= k.apart[group]
		out = append(out, rollout.Vital{Name: vitalKilledIn + group, Kind: rollout.Stranger, Value: k.apart[group], Usual: k.usual[group]})
	}
	return out
}

// killTime is what the log may take to answer. That is longer than a look may take otherwise, for a kill is
// rare, and on a host that is short of memory the guard answers late.
const killTime = time.Second

// read gives what the log has beyond the last look.
func (k *killed) read(ctx context.Context) []host.Kill {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTime)
	defer cancel()
	type answer struct {
		list []host.Kill
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		list, err := k.list()
		answered <- answer{list, err}
	}()
	k.state = lost
	select {
	case <-ctx.Done():
		return nil
	case a := <-answered:
		if a.err != nil {
			return nil
		}
		k.state = followed
		seq := k.seq
		news := slices.DeleteFunc(a.list, func(one host.Kill) bool { return one.Seq <= seq })
		if n := len(news); n > 0 {
			k.seq = news[n-1].Seq
		}
		return news
	}
}

// touches reports whether a kill hit what the trial changes or what its meter measures. Where neither is
// a process or a control group, the rule for strangers remains: a first kill while treated counts.
func touches(h *host.Host, k host.Kill, changes []tune.Change, meter rollout.Meter) bool {
	for _, c := range changes {
		switch c.Scope {
		case tune.ScopeCgroup:
			if tune.Below(c.Target, k.Group) || tune.Below(k.Group, c.Target) {
				return true
			}
		case tune.ScopeProcess:
			pid, err := strconv.Atoi(strings.TrimPrefix(c.Target, "pid:"))
			if err == nil && h.KilledIn(k, pid) {
				return true
			}
		}
	}
	if w, ok := meter.(*witnessMeter); ok {
		meter = w.Meter
	}
	m, ok := meter.(*ebpfMeter)
	return ok && m.of.Comm != "" && m.of.Comm == k.Comm
}
