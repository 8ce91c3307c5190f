//go:build ignore

// SPDX-License-Identifier: GPL-2.0
/* TCP's rare events and two times, by network namespace: segments and SYN-ACKs sent again, resets sent
 * and received, how long connections take to be set up, and the smoothed round trip time of the
 * connections that segments arrive on, one in SAMPLE. */
#include "kernel.h"
#include "hist.h"
#include "probe.h"

#define NAMESPACES 256
#define REASONS 64
#define SAMPLE 61 /* a prime: requests and answers that take turns on a CPU are both met */

#define PROTOCOL_TCP 6
#define ESTABLISHED 1
#define SYN_SENT 2
#define SYN_RECV 3
#define CLOSED 7
#define ERR_BUSY 16

/* sample_every is SAMPLE but in a test. */
volatile u32 sample_every = SAMPLE;

/* now is the clock as of the last reading: user space sets it, asking for it at every event would cost. */
volatile u64 now = 0;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct tcp_sock {
	u32 srtt_us; /* eight times the time */
	u32 total_rto_time; /* since 6.7: milliseconds lost to timeouts */
};

struct tcp_skb_cb {
	u16 tcp_gso_segs;
};

struct net_device {
	possible_net_t nd_net;
};

struct sk_buff {
	struct net_device *dev;
	char cb[48];
};

/* What the tracepoints' own records have tells which arguments they have. */
struct trace_event_raw_tcp_retransmit_skb {
	int err; /* since 6.17 */
};

enum sk_rst_reason { SK_RST_REASON_NOT_SPECIFIED };

struct trace_event_raw_tcp_send_reset {
	enum sk_rst_reason reason; /* since 6.10; a field is found by its kind of type too */
};

#pragma clang attribute pop

struct counts {
	u64 last; /* when something was counted, for user space to forget idle namespaces */
	u64 retransmits;
	u64 retransmit_failures;
	u64 synack_retransmits;
	u64 resets_sent;
	u64 resets_received;
	u64 connects;
	u64 connect_failures;
	u64 handshakes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, NAMESPACES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u32); /* inode of the namespace; 0 is not known */
	__type(value, struct counts);
} namespaces SEC(".maps");

#define HISTS(name)                                       \
	struct {                                          \
		__uint(type, BPF_MAP_TYPE_HASH);          \
		__uint(max_entries, NAMESPACES);          \
		__uint(map_flags, BPF_F_NO_PREALLOC);     \
		__type(key, u32);                         \
		__type(value, struct hist);               \
	} name SEC(".maps")

HISTS(connect_times);
HISTS(handshake_times);
HISTS(round_trips);

/* host has the same three of all namespaces together, those forgotten included. */
#define CONNECT_TIMES 0
#define HANDSHAKE_TIMES 1
#define ROUND_TRIPS 2

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 3);
	__type(key, u32);
	__type(value, struct hist);
} host SEC(".maps");

/* reset_reasons counts sent resets by enum sk_rst_reason, whose names user space has. */
struct reasons {
	u64 counts[REASONS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct reasons);
} reset_reasons SEC(".maps");

struct start {
	u64 ts;
	u32 epoch;
	u32 pad;
};

/* starts holds sockets in SYN_SENT. One that leaves it while the probe pauses stays, until user space
 * sees that its epoch is over. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, struct start);
} starts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} segments SEC(".maps");

static __always_inline u32 netns_of(const struct sock *sk)
{
	return sk->__sk_common.skc_net.net->ns.inum;
}

/* of finds a namespace's counts, stamped; NULL when there are too many namespaces. */
static __always_inline struct counts *of(u32 netns)
{
	struct counts *c = bpf_map_lookup_elem(&namespaces, &netns);

	if (!c) {
		struct counts none = {};

		bpf_map_update_elem(&namespaces, &netns, &none, BPF_NOEXIST);
		c = bpf_map_lookup_elem(&namespaces, &netns);
		if (!c) {
			lose();
			return 0;
		}
	}
	c->last = now;
	return c;
}

static __always_inline void time_in(void *map, u32 which, u32 netns, u64 ns)
{
	struct hist *h = bpf_map_lookup_elem(&host, &which);

	if (h)
		hist_add_local(h, ns);
	h = hist_of(map, &netns);
	if (h)
		hist_add(h, ns);
	else
		lose();
}

/* The kernel's RetransSegs and TCP_INFO count segments, before it is known whether they could be sent.
 * Older kernels tell only what was sent. A failed attempt that is due to the earlier copy being still
 * on its way out of this host is none. */
SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(retransmit, const struct sock *sk, const struct sk_buff *skb)
{
	struct counts *c;
	u16 segs;
	s32 err = 0;

	if (!sock_in_scope(sk))
		return 0;
	if (bpf_core_field_exists(((struct trace_event_raw_tcp_retransmit_skb *)0)->err))
		err = (s32)ctx[2];
	if (err == -ERR_BUSY)
		return 0;
	c = of(netns_of(sk));
	if (!c)
		return 0;
	if (err < 0) {
		__sync_fetch_and_add(&c->retransmit_failures, 1);
		return 0;
	}
	segs = BPF_CORE_READ((const struct tcp_skb_cb *)&skb->cb, tcp_gso_segs);
	__sync_fetch_and_add(&c->retransmits, segs ? segs : 1);
	return 0;
}

SEC("tp_btf/tcp_retransmit_synack")
int BPF_PROG(retransmit_synack, const struct sock *sk)
{
	struct counts *c;

	if (!sock_in_scope(sk))
		return 0;
	c = of(netns_of(sk));
	if (c)
		__sync_fetch_and_add(&c->synack_retransmits, 1);
	return 0;
}

/* A reset that answers a segment nobody waits for has no socket (kernels before 6.10 do not tell of it);
 * one that a socket sends by itself answers no segment. */
SEC("tp_btf/tcp_send_reset")
int BPF_PROG(send_reset, const struct sock *sk, const struct sk_buff *skb)
{
	u32 flags = scope.flags, netns = 0, zero = 0, reason, at;
	struct counts *c;
	struct reasons *r;

	if (sk)
		netns = netns_of(sk);
	if (!netns && skb)
		netns = skb->dev->nd_net.net->ns.inum;
	if ((flags & SCOPE_NETNS) && netns != scope.netns)
		return 0;
	if ((flags & SCOPE_PORT) && (!sk || sk->__sk_common.skc_num != scope.port))
		return 0;
	c = of(netns);
	if (c)
		__sync_fetch_and_add(&c->resets_sent, 1);
	if (bpf_core_field_exists(((struct trace_event_raw_tcp_send_reset *)0)->reason)) {
		reason = (u32)ctx[2];
		r = bpf_map_lookup_elem(&reset_reasons, &zero);
		at = reason & (REASONS - 1); /* a bound that every kernel's verifier follows */
		if (r)
			__sync_fetch_and_add(&r->counts[at == reason ? at : REASONS - 1], 1);
	}
	return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(receive_reset, struct sock *sk)
{
	struct counts *c;

	if (!sock_in_scope(sk))
		return 0;
	c = of(netns_of(sk));
	if (c)
		__sync_fetch_and_add(&c->resets_received, 1);
	return 0;
}

/* connecting ends a client's set-up. */
static __always_inline void connecting(const struct sock *sk, int newstate)
{
	u64 key = (u64)sk;
	struct start *s = bpf_map_lookup_elem(&starts, &key);
	struct counts *c;
	u32 netns;
	u64 took;

	if (!s)
		return;
	took = bpf_ktime_get_ns() - s->ts;
	if (s->epoch != epoch)
		newstate = 0;
	bpf_map_delete_elem(&starts, &key);
	if (newstate != ESTABLISHED && newstate != CLOSED)
		return;
	netns = netns_of(sk);
	c = of(netns);
	if (!c)
		return;
	if (newstate == CLOSED) {
		__sync_fetch_and_add(&c->connect_failures, 1);
		return;
	}
	__sync_fetch_and_add(&c->connects, 1);
	time_in(&connect_times, CONNECT_TIMES, netns, took);
}

/* accepted ends a server's: the kernel made the socket when the client's ACK came, and took the time
 * since its first SYN-ACK for the first round trip time, or as time lost if the SYN-ACK had to be sent
 * again. With SYN cookies it knows neither. */
static __always_inline void accepted(const struct sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock((void *)sk);
	struct counts *c;
	u32 netns;
	u64 took;

	if (!tp)
		return;
	netns = netns_of(sk);
	c = of(netns);
	if (!c)
		return;
	__sync_fetch_and_add(&c->handshakes, 1);
	took = (u64)(tp->srtt_us >> 3) * 1000;
	if (!took && bpf_core_field_exists(tp->total_rto_time))
		took = (u64)tp->total_rto_time * 1000000;
	if (took)
		time_in(&handshake_times, HANDSHAKE_TIMES, netns, took);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(set_state, const struct sock *sk, const int oldstate, const int newstate)
{
	struct start s = {};
	u64 key = (u64)sk;

	if (newstate != SYN_SENT && oldstate != SYN_SENT && oldstate != SYN_RECV)
		return 0;
	if (sk->sk_protocol != PROTOCOL_TCP || !sock_in_scope(sk))
		return 0;
	if (newstate == SYN_SENT) {
		s.ts = bpf_ktime_get_ns();
		s.epoch = epoch;
		if (bpf_map_update_elem(&starts, &key, &s, BPF_ANY))
			lose();
	} else if (oldstate == SYN_SENT) {
		connecting(sk, newstate);
	} else if (newstate == ESTABLISHED) {
		accepted(sk);
	}
	return 0;
}

/* segment meets every segment that arrives on an established connection. */
SEC("tp_btf/tcp_probe")
int BPF_PROG(segment, struct sock *sk)
{
	struct tcp_sock *tp;
	u32 zero = 0, *n;
	u64 srtt;

	n = bpf_map_lookup_elem(&segments, &zero);
	if (!n || ++*n < sample_every)
		return 0;
	*n = 0;
	if (!sock_in_scope(sk))
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	srtt = (u64)(tp->srtt_us >> 3) * 1000;
	if (srtt && of(netns_of(sk)))
		time_in(&round_trips, ROUND_TRIPS, netns_of(sk), srtt);
	return 0;
}
