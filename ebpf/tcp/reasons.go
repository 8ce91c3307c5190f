package tcp

import (
	"strings"

	"semantos/ebpf/probe"
)

// resetReasons are the reasons a reset is sent for that have a series of their own, as enum sk_rst_reason
// of Linux 6.18 names them. Their numbers are the running kernel's: they move.
const resetReasons = `not_specified no_socket tcp_invalid_ack_sequence tcp_rfc7323_paws tcp_too_old_ack
tcp_ack_unsent_data tcp_flags tcp_old_ack tcp_abort_on_data tcp_timewait_socket invalid_syn tcp_abort_on_close
tcp_abort_on_linger tcp_abort_on_memory tcp_state tcp_keepalive_timeout tcp_disconnect_with_data error`

// keeper is what one Spec remembers between its probe's readings.
type keeper struct {
	reasons map[uint64]string // the running kernel's names by number
	swept   uint32            // the epoch whose beginning abandoned what was begun before
}

func (k *keeper) learn(types *probe.Types) error {
	named, err := types.Enum("sk_rst_reason")
	if err != nil {
		return err
	}
	shown := map[string]bool{}
	for _, r := range strings.Fields(resetReasons) {
		shown[r] = true
	}
	k.reasons = map[uint64]string{}
	for number, name := range named {
		if name = strings.ToLower(strings.TrimPrefix(name, "SK_RST_REASON_")); shown[name] {
			k.reasons[number] = name
		}
	}
	return nil
}

func (k *keeper) readReasons(p *probe.Probe, out probe.Sink) error {
	var counts [64]uint64
	if err := p.Map(bpfMapResetReasons).Lookup(uint32(0), &counts); err != nil {
		return err
	}
	counted := map[string]float64{}
	for i, n := range counts {
		if n == 0 {
			continue
		}
		name := k.reasons[uint64(i)]
		if name == "" {
			name = "other"
		}
		counted[name] += float64(n)
	}
	for name, n := range counted {
		out.Counter(probe.Subject{}, "tcpev.resets_sent."+name, n)
	}
	return nil
}
