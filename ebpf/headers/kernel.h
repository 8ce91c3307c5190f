/* SPDX-License-Identifier: GPL-2.0 */
/* The kernel's types, as far as probes read them. CO-RE relocates every field to where the running
 * kernel has it, so order and neighbours do not matter here; names and types do. A probe declares what
 * only it needs in its own file, inside the same pragma. */
#ifndef SEMANTOS_KERNEL_H
#define SEMANTOS_KERNEL_H

#include <stdbool.h>
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct kernfs_node {
	u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct nsproxy {
	struct net *net_ns;
};

struct task_struct {
	int pid;
	int tgid;
	unsigned int flags;
	unsigned int __state;
	unsigned int in_iowait : 1;
	char comm[16];
	struct css_set *cgroups;
	struct nsproxy *nsproxy;
	struct task_struct *group_leader;
	u64 start_boottime;
};

struct in6_addr;

struct sock_common {
	unsigned short skc_family;
	volatile unsigned char skc_state;
	__be16 skc_dport;
	__u16 skc_num;
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	possible_net_t skc_net;
};

struct sock {
	struct sock_common __sk_common;
	u16 sk_type;
	u16 sk_protocol;
	u32 sk_ack_backlog;
	u32 sk_max_ack_backlog;
};

#pragma clang attribute pop

char LICENSE[] SEC("license") = "GPL";

#endif
