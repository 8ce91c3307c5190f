package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"semantos/ebpf/probe"
	"semantos/ebpf/reqlat"
	"semantos/internal/host"
	"semantos/internal/tune"
)

// mostProbes bounds how many probes one meter loads to tell cgroups or processes apart: each one sees
// every request of the host.
const mostProbes = 16

// unitServers finds where the requests of each unit are answered: a whole namespace (port 0), or one port in
// it. ok is false where the units are something else, or two of them share a port.
func unitServers(units []tune.Unit) (at []reqlat.Server, ok bool) {
	seen := map[reqlat.Server]bool{}
	for _, u := range units {
		var s reqlat.Server
		if inode, is := strings.CutPrefix(u.Target, "netns:"); is {
			n, err := strconv.ParseUint(inode, 10, 32)
			if err != nil {
				return nil, false
			}
			s.Netns = uint32(n)
		} else if sock, err := host.ParseSocketTarget(u.Target); err == nil && sock.Proto == "tcp" {
			s = reqlat.Server{Netns: uint32(sock.Netns), Port: sock.Local.Port()}
		} else {
			return nil, false
		}
		if seen[s] {
			return nil, false
		}
		seen[s] = true
		at = append(at, s)
	}
	return at, len(at) > 0
}

// unitScopes narrows the meter to each cgroup or process. ok is false where the units are something else.
func (m *ebpfMeter) unitScopes(units []tune.Unit) (scopes []probe.Scope, ok bool) {
	if len(units) > mostProbes {
		return nil, false
	}
	for _, u := range units {
		of := m.of
		if pid, is := strings.CutPrefix(u.Target, "pid:"); is {
			n, err := strconv.Atoi(pid)
			if err != nil {
				return nil, false
			}
			of.PID = n
		} else if strings.HasPrefix(u.Target, "/") {
			of.Cgroup = u.Target
		} else {
			return nil, false
		}
		s, err := scopeOf(of, "/sys/fs/cgroup", "/run/netns")
		if err != nil {
			return nil, false
		}
		scopes = append(scopes, s)
	}
	return scopes, len(scopes) > 0
}

// Splits reports whether the meter can tell these targets apart: namespaces and listening sockets by where a
// request was answered, cgroups and processes by a probe for each.
func (m *ebpfMeter) Splits(units []tune.Unit) bool {
	if _, ok := unitServers(units); ok {
		return true
	}
	_, ok := m.unitScopes(units)
	return ok
}

// SampleUnits counts each unit's requests for d. A unit that answered none gave no data.
func (m *ebpfMeter) SampleUnits(ctx context.Context, d time.Duration, units []tune.Unit) ([]*tune.MeterSample, error) {
	if err := m.Check(ctx); err != nil {
		return nil, err
	}
	start := time.Now()
	before, err := m.readUnits(units)
	if err != nil {
		return nil, err
	}
	if err := letPass(ctx, d); err != nil {
		return nil, err
	}
	after, err := m.readUnits(units)
	if err != nil {
		return nil, err
	}
	end := time.Now()
	out := make([]*tune.MeterSample, len(units))
	some := false
	for i := range units {
		seen := after[i]
		if seen.Count >= before[i].Count { // else its slot was taken back and given out again
			seen = seen.Since(before[i])
		}
		if seen.Latency.Count() == 0 {
			continue
		}
		some = true
		out[i] = new(sampleOf(seen, start, end))
	}
	if !some {
		return nil, fmt.Errorf("meter %s saw no request answered on any target in %.1f s: %w", m.name, d.Seconds(), tune.ErrNoData)
	}
	return out, nil
}

// readUnits gives what each unit has answered so far.
func (m *ebpfMeter) readUnits(units []tune.Unit) ([]reqlat.Requests, error) {
	if at, ok := unitServers(units); ok {
		all, err := reqlat.Each(m.p)
		if err != nil {
			return nil, err
		}
		out := make([]reqlat.Requests, len(units))
		for i, s := range at {
			for key, r := range all {
				if key.Netns == s.Netns && (s.Port == 0 || s.Port == key.Port) {
					out[i] = out[i].And(r)
				}
			}
		}
		return out, nil
	}
	if err := m.loadEach(units); err != nil {
		return nil, err
	}
	out := make([]reqlat.Requests, len(units))
	for i, u := range units {
		r, err := reqlat.Totals(m.each[u.Target])
		if err != nil {
			return nil, err
		}
		out[i] = r
	}
	return out, nil
}

// loadEach loads a probe for each unit once.
func (m *ebpfMeter) loadEach(units []tune.Unit) error {
	if m.each != nil {
		return nil
	}
	scopes, ok := m.unitScopes(units)
	if !ok {
		return fmt.Errorf("meter %s cannot tell these targets apart: %w", m.name, tune.ErrNoData)
	}
	m.each = map[string]*probe.Probe{}
	for i, u := range units {
		p, err := probe.Load(reqlat.New(), probe.Options{Scope: scopes[i]})
		if err != nil {
			m.each = nil
			return fmt.Errorf("meter %s of %s: %w", m.name, u.Target, err)
		}
		m.each[u.Target] = p
		m.later(p.Close)
	}
	return nil
}
