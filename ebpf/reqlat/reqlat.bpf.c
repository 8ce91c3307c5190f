//go:build ignore

// SPDX-License-Identifier: GPL-2.0
/* How long servers take to answer: per accepted TCP socket, first bytes in to first bytes out. */
#include "kernel.h"
#include "hist.h"
#include "probe.h"

#define SERVERS 256
#define FAMILY_INET 2
#define FAMILY_INET6 10
#define PROTOCOL_TCP 6
#define STATE_LISTEN 10
#define FLAG_PEEK 0x2
#define FLAG_ERRQUEUE 0x2000

/* SILENCE ends what was read and not answered: bytes that come later begin a request of their own. So a
 * frame that wants no answer (HTTP/2's window updates) is not taken for the start of the next request. */
#define SILENCE 100000000ULL /* ns */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct tcp_sock {
	u32 rcv_nxt;
	u32 copied_seq;
	u64 tcp_clock_cache;
};

struct socket;

struct sock___owned {
	struct socket *sk_socket;
};

#pragma clang attribute pop

/* server_key names a server: all processes of one name on one port of one network namespace. */
struct server_key {
	u32 netns;
	u16 port;
	u16 pad;
	char comm[16];
};

/* conn is what is remembered of one accepted connection. Arrivals come in softirq, reads and answers in
 * the process, with no lock between them: read takes the arrivals away with atomic exchanges. */
struct conn {
	u64 fresh;    /* arrival of the oldest bytes that nobody has read; 0: all are read */
	u64 newer;    /* arrival of the first bytes that came after fresh and fresh_end was set */
	u64 arrived;  /* arrival of the request that is being served; 0: not seen */
	u64 read;     /* first read of the request that is being served; 0: none is */
	u64 last;     /* its last read */
	u64 accepted; /* how long the first bytes waited for accept and first read; 0: did not, or told */
	u32 fresh_end; /* sequence number behind fresh's bytes */
	u32 epoch;
	u32 tgid;  /* the process that answered last */
	u32 slot;  /* of its server */
	u64 generation; /* of the slot */
	u32 queued; /* the first bytes came before accept */
	u32 pad;
};

struct server {
	u64 generation;
	u64 last; /* time of the last answer */
	u64 tgid; /* who gave it */
	struct hist latency, wait, service, accept;
};

struct host {
	u64 count;
	struct hist latency;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct conn);
} conns SEC(".maps");

/* Servers live in slots, so that an answer finds its server without a hash: a connection remembers the
 * slot. User space takes a slot back by deleting its key, clearing it with a new generation, and
 * putting it into unused. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SERVERS);
	__type(key, u32);
	__type(value, struct server);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SERVERS);
	__type(key, struct server_key);
	__type(value, u32);
} servers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, SERVERS);
	__type(value, u32);
} unused SEC(".maps");

/* used is how many slots have ever been given out. */
u64 used = 0;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct host);
} host SEC(".maps");

/* is_server knows an accepted socket by the length of the accept queue, which it has as a copy from its
 * listener; only listen(2) sets it, so a socket that connected has 0. */
static __always_inline bool is_server(const struct sock *sk)
{
	u16 family = sk->__sk_common.skc_family;

	if (family != FAMILY_INET && family != FAMILY_INET6)
		return false;
	if (!sk->sk_max_ack_backlog || sk->sk_protocol != PROTOCOL_TCP)
		return false;
	return sk->__sk_common.skc_state != STATE_LISTEN && sock_in_scope(sk);
}

static __always_inline struct conn *conn_of(const struct sock *sk, u64 flags)
{
	struct conn *c = bpf_sk_storage_get(&conns, (void *)sk, 0, flags);

	if (c && c->epoch != epoch) {
		c->epoch = epoch;
		c->fresh = c->newer = c->arrived = c->read = c->accepted = 0;
		c->queued = 0;
	}
	return c;
}

extern void *bpf_rdonly_cast(const void *, u32) __ksym;

/* tcp: is_server has looked at the protocol. */
static __always_inline struct tcp_sock *tcp(const struct sock *sk)
{
	return bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct tcp_sock));
}

/* stamp gives the time at which TCP last handled a segment of the socket, or copied bytes to the
 * process, which is where the callers come from: it reads the clock for both and keeps it
 * (CLOCK_MONOTONIC, ns). Reading the clock again costs more than all else here, in a virtual machine. */
static __always_inline u64 stamp(struct tcp_sock *tp, u64 after)
{
	if (bpf_core_field_exists(tp->tcp_clock_cache)) {
		u64 at = tp->tcp_clock_cache;

		if (at > after)
			return at;
	}
	return bpf_ktime_get_ns();
}

static __always_inline u64 take(u64 *at)
{
	return __sync_lock_test_and_set(at, 0);
}

SEC("tp_btf/sk_data_ready")
int BPF_PROG(arrive, const struct sock *sk)
{
	struct tcp_sock *tp;
	struct conn *c;

	if (!is_server(sk))
		return 0;
	c = conn_of(sk, 0);
	if (!c) {
		c = conn_of(sk, BPF_SK_STORAGE_GET_F_CREATE);
		if (!c) {
			lose();
			return 0;
		}
		c->queued = !((struct sock___owned *)sk)->sk_socket;
	}
	if (c->newer)
		return 0;
	tp = tcp(sk);
	if (!c->fresh) {
		c->fresh_end = tp->rcv_nxt;
		c->fresh = stamp(tp, 0);
	} else {
		c->newer = stamp(tp, c->fresh);
	}
	return 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(receive, struct sock *sk, int ret, int flags)
{
	u64 now, fresh, newer;
	struct tcp_sock *tp;
	u32 copied, next;
	struct conn *c;

	if (ret <= 0 || (flags & (FLAG_PEEK | FLAG_ERRQUEUE)) || !is_server(sk))
		return 0;
	tp = tcp(sk);
	c = conn_of(sk, BPF_SK_STORAGE_GET_F_CREATE);
	if (!c) {
		lose();
		return 0;
	}
	copied = tp->copied_seq;
	fresh = take(&c->fresh);
	newer = take(&c->newer);
	if (!fresh)
		fresh = newer;
	now = stamp(tp, fresh);
	if (!c->read || (fresh > c->last && fresh - c->last > SILENCE)) {
		c->read = now;
		c->arrived = fresh;
		if (c->queued && fresh)
			c->accepted = now - fresh;
		c->queued = 0;
	}
	c->last = now;
	/* What is left unread begins the next request, or belongs to this one until it is answered. */
	next = tp->rcv_nxt;
	if (next == copied || !fresh)
		return 0;
	if ((s32)(copied - c->fresh_end) < 0) {
		c->newer = newer ?: c->fresh;
		c->fresh = fresh;
	} else if (newer) {
		c->fresh_end = next;
		c->fresh = newer;
	}
	return 0;
}

/* slot_of finds a server's slot or gives it one; SERVERS when all are taken (or, for
 * this once, when another CPU took one at the same time). */
static __always_inline u32 slot_of(struct server_key *key)
{
	u32 *known = bpf_map_lookup_elem(&servers, key);
	u32 slot = SERVERS;

	if (known)
		return *known;
	if (bpf_map_pop_elem(&unused, &slot)) {
		u64 n = *(volatile u64 *)&used;

		if (n >= SERVERS || __sync_val_compare_and_swap(&used, n, n + 1) != n)
			return SERVERS;
		slot = n;
	}
	if (!bpf_map_update_elem(&servers, key, &slot, BPF_NOEXIST))
		return slot;
	bpf_map_push_elem(&unused, &slot, 0); /* another CPU was first */
	known = bpf_map_lookup_elem(&servers, key);
	return known ? *known : SERVERS;
}

static __always_inline struct server *server_of(struct conn *c, const struct sock *sk, struct task_struct *t)
{
	struct server_key key = {};
	struct server *s;

	if (c->tgid == (u32)t->tgid) {
		s = bpf_map_lookup_elem(&slots, &c->slot);
		if (s && s->generation == c->generation)
			return s;
	}
	key.netns = sk->__sk_common.skc_net.net->ns.inum;
	key.port = sk->__sk_common.skc_num;
	bpf_probe_read_kernel_str(key.comm, sizeof(key.comm), t->group_leader->comm);
	c->slot = slot_of(&key);
	s = bpf_map_lookup_elem(&slots, &c->slot);
	if (!s) {
		c->tgid = 0;
		return 0;
	}
	c->tgid = t->tgid;
	c->generation = s->generation;
	return s;
}

/* answers_in_scope judges who answers. The namespace is the socket's, which is_server has judged: a
 * server may hold a socket of another one than its own. */
static __always_inline bool answers_in_scope(struct task_struct *t)
{
	u32 flags = scope.flags;

	if (!(flags & ~(SCOPE_NETNS | SCOPE_PORT)))
		return true;
	if ((flags & SCOPE_TGID) && (u32)t->tgid != scope.tgid)
		return false;
	if ((flags & SCOPE_CGROUP) && t->cgroups->dfl_cgrp->kn->id != scope.cgroup)
		return false;
	return !(flags & SCOPE_COMM) || same_comm(t) || same_comm(t->group_leader);
}

static __always_inline int answer(const struct sock *sk)
{
	u64 now, read, arrived, accepted;
	struct task_struct *t;
	struct server *s;
	struct conn *c;
	struct host *h;
	u32 zero = 0;

	if (!is_server(sk))
		return 0;
	c = conn_of(sk, 0);
	if (!c || !c->read)
		return 0;
	now = bpf_ktime_get_ns();
	read = c->read;
	arrived = c->arrived;
	accepted = c->accepted;
	c->read = c->accepted = 0;
	t = bpf_get_current_task_btf();
	if (!answers_in_scope(t))
		return 0;
	h = bpf_map_lookup_elem(&host, &zero);
	if (!h)
		return 0;
	h->count++;
	if (arrived)
		hist_add_local(&h->latency, now - arrived);
	s = server_of(c, sk, t);
	if (!s) {
		lose();
		return 0;
	}
	s->last = now;
	if (s->tgid != t->tgid)
		s->tgid = t->tgid;
	hist_add(&s->service, now - read);
	if (arrived) {
		hist_add(&s->latency, now - arrived);
		hist_add(&s->wait, read - arrived);
	}
	if (accepted)
		hist_add(&s->accept, accepted);
	return 0;
}

/* The first bytes go into the send buffer; kernels since 6.16 tell. */
SEC("tp_btf/tcp_sendmsg_locked")
int BPF_PROG(sending, const struct sock *sk)
{
	return answer(sk);
}

/* A send has returned: on older kernels only. It comes late where a send blocks. */
SEC("tp_btf/sock_send_length")
int BPF_PROG(sent, struct sock *sk, int ret)
{
	return ret > 0 ? answer(sk) : 0;
}
