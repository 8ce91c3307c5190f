package drops

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"semantos/ebpf/probe"
	"semantos/internal/tune"
)

const source = "tracepoint skb kfree_skb"

// reasons are the numbers the kernel side counts apart; the last takes what is beyond.
const reasons = 256

// shown are the reasons with a series of their own, as enum skb_drop_reason of Linux 6.18 names them, each
// with what it means. The others count in drops.other.
const shown = `
not_specified | the kernel does not say why
no_socket | nobody listens on the port
socket_close | the socket was closed with it unread
queue_purge | a queue was emptied; ordinary where a connection ends
socket_filter | a filter on the socket refused it
socket_rcvbuff | the socket's receive buffer is full (rmem, SO_RCVBUF)
socket_backlog | the socket's backlog is full while its owner works on it (rmem and wmem together)
proto_mem | the protocol's memory is used up (tcp_mem, udp_mem)
tcp_listen_overflow | the accept queue is full (somaxconn, the listener's backlog)
tcp_zerowindow | it came while the receive window was shut
tcp_overwindow | it lies beyond the receive window
tcp_ofo_queue_prune | segments out of order had to go for lack of receive buffer
tcp_ofo_drop | no receive buffer for a segment out of order
tcp_old_data | the data had come before
tcp_ofomerge | the data had come before, out of order
tcp_rfc7323_paws | its timestamp is too old
tcp_invalid_sequence | its sequence number is not expected
tcp_reset | a reset arrived
tcp_close | the connection is closing
tcp_flags | its flags do not fit the connection's state
tcp_csum | a TCP checksum is wrong
udp_csum | a UDP checksum is wrong
netfilter_drop | a netfilter rule dropped it
ip_outnoroutes | there is no route out
ip_innoroutes | there is no route for what came in
ip_rpfilter | the reverse path filter refused it (rp_filter)
otherhost | it is for another host
neigh_createfail | the neighbour table is full (gc_thresh3)
neigh_failed | the neighbour does not answer
neigh_queuefull | too many packets wait for the neighbour's address (unres_qlen)
neigh_dead | the neighbour's entry is going away
qdisc_drop | a queue discipline dropped it (its limit, txqueuelen)
qdisc_overlimit | a queue discipline is over its limit
qdisc_congested | a queue discipline dropped it to signal congestion
fq_band_limit | a band of fq is full
fq_flow_limit | a flow of fq has too many packets
cpu_backlog | a CPU's input queue is full (netdev_max_backlog)
tc_ingress | a classifier dropped it on its way in
tc_egress | a classifier dropped it on its way out
xdp | an XDP program dropped it
full_ring | a device's ring is full
nomem | there was no memory for it
pkt_too_big | it is larger than the path takes
frag_reasm_timeout | its other fragments did not come in time
dup_frag | a fragment came twice
unhandled_proto | nobody handles its protocol`

// keeper has the running kernel's names of reasons by number.
type keeper struct{ names map[uint64]string }

// New describes the probe: a counter drops.<reason> for each reason in shown, and drops.other. A series
// appears with its first event.
func New() probe.Spec {
	k := &keeper{}
	return probe.Spec{
		Name:       "drops",
		Answers:    "how many packets the kernel drops, and why",
		Signals:    signals(),
		Collection: loadBpf,
		Prepare:    k.prepare,
		Read:       k.read,
	}
}

func signals() []tune.Signal {
	out := []tune.Signal{{Name: "drops.other", Unit: "packets", Counter: true,
		Help: "packets dropped for a reason that has no series of its own", Source: source}}
	meaning := known()
	for _, reason := range slices.Sorted(maps.Keys(meaning)) {
		out = append(out, tune.Signal{Name: "drops." + reason, Unit: "packets", Counter: true,
			Help: "packets dropped because " + meaning[reason], Source: source})
	}
	return out
}

// known gives shown's reasons with their meaning.
func known() map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(strings.TrimSpace(shown)) {
		reason, help, _ := strings.Cut(strings.TrimSpace(line), " | ")
		out[reason] = help
	}
	return out
}

func (k *keeper) prepare(_ *ebpf.CollectionSpec, opts probe.Options) error {
	args, err := opts.Types.Args("kfree_skb")
	if err != nil {
		return err
	}
	if args < 3 {
		return fmt.Errorf("%w: this kernel does not say why it drops a packet (since Linux 5.17)", tune.ErrUnsupported)
	}
	named, err := opts.Types.Enum("skb_drop_reason")
	if err != nil {
		return err
	}
	meaning := known()
	k.names = map[uint64]string{}
	for number, name := range named {
		name = strings.ToLower(strings.TrimPrefix(name, "SKB_DROP_REASON_"))
		if meaning[name] != "" {
			k.names[number] = name
		}
	}
	return nil
}

func (k *keeper) read(p *probe.Probe, out probe.Sink) error {
	var perCPU [][reasons]uint64
	if err := p.Map(bpfMapDrops).Lookup(uint32(0), &perCPU); err != nil {
		return fmt.Errorf("read dropped packets: %w", err)
	}
	counted := map[string]float64{}
	for number := range reasons {
		name := k.names[uint64(number)]
		if name == "" {
			name = "other"
		}
		for _, cpu := range perCPU {
			if n := cpu[number]; n > 0 {
				counted[name] += float64(n)
			}
		}
	}
	for name, n := range counted {
		out.Counter(probe.Subject{}, "drops."+name, n)
	}
	return nil
}
