package telemetry

import (
	"context"
	"os"
	"strings"

	"semantos/internal/tune"
)

// vmFields are the fields of /proc/vmstat of the kernels in use; a field this list lacks is not delivered.
const vmFields = `
nr_free_pages nr_free_pages_blocks nr_zone_inactive_anon nr_zone_active_anon nr_zone_inactive_file nr_zone_active_file
nr_zone_unevictable nr_zone_write_pending nr_mlock nr_zspages nr_free_cma nr_unaccepted nr_bounce nr_page_table_pages
nr_inactive_anon nr_active_anon nr_inactive_file nr_active_file nr_unevictable nr_slab_reclaimable nr_slab_unreclaimable
nr_isolated_anon nr_isolated_file nr_anon_pages nr_mapped nr_file_pages nr_dirty nr_writeback nr_writeback_temp nr_shmem
nr_shmem_hugepages nr_shmem_pmdmapped nr_file_hugepages nr_file_pmdmapped nr_anon_transparent_hugepages nr_unstable
nr_kernel_misc_reclaimable nr_kernel_stack nr_sec_page_table_pages nr_iommu_pages nr_swapcached nr_hugetlb nr_balloon_pages
nr_kernel_file_pages nr_dirty_threshold nr_dirty_background_threshold nr_memmap_pages nr_memmap_boot_pages workingset_nodes
numa_hit numa_miss numa_foreign numa_interleave numa_local numa_other
workingset_refault workingset_refault_anon workingset_refault_file workingset_activate workingset_activate_anon
workingset_activate_file workingset_restore workingset_restore_anon workingset_restore_file workingset_nodereclaim
nr_vmscan_write nr_vmscan_immediate_reclaim nr_dirtied nr_written nr_throttled_written nr_foll_pin_acquired nr_foll_pin_released
pgpromote_success pgpromote_candidate pgpromote_candidate_nrl pgdemote_kswapd pgdemote_direct pgdemote_khugepaged pgdemote_proactive
pgpgin pgpgout pswpin pswpout pgalloc_dma pgalloc_dma32 pgalloc_normal pgalloc_movable pgalloc_device
allocstall_dma allocstall_dma32 allocstall_normal allocstall_movable allocstall_device
pgskip_dma pgskip_dma32 pgskip_normal pgskip_movable pgskip_device
pgfree pgactivate pgdeactivate pglazyfree pgfault pgmajfault pglazyfreed pgrefill pgreuse
pgsteal_kswapd pgsteal_direct pgsteal_khugepaged pgsteal_proactive pgscan_kswapd pgscan_direct pgscan_khugepaged pgscan_proactive
pgscan_direct_throttle pgscan_anon pgscan_file pgsteal_anon pgsteal_file zone_reclaim_success zone_reclaim_failed
pginodesteal slabs_scanned kswapd_inodesteal kswapd_low_wmark_hit_quickly kswapd_high_wmark_hit_quickly pageoutrun pgrotated
drop_pagecache drop_slab oom_kill numa_pte_updates numa_huge_pte_updates numa_hint_faults numa_hint_faults_local
numa_pages_migrated numa_task_migrated numa_task_swapped pgmigrate_success pgmigrate_fail
thp_migration_success thp_migration_fail thp_migration_split
compact_migrate_scanned compact_free_scanned compact_isolated compact_stall compact_fail compact_success
compact_daemon_wake compact_daemon_migrate_scanned compact_daemon_free_scanned
htlb_buddy_alloc_success htlb_buddy_alloc_fail cma_alloc_success cma_alloc_fail
unevictable_pgs_culled unevictable_pgs_scanned unevictable_pgs_rescued unevictable_pgs_mlocked unevictable_pgs_munlocked
unevictable_pgs_cleared unevictable_pgs_stranded
thp_fault_alloc thp_fault_fallback thp_fault_fallback_charge thp_collapse_alloc thp_collapse_alloc_failed thp_file_alloc
thp_file_fallback thp_file_fallback_charge thp_file_mapped thp_split_page thp_split_page_failed thp_deferred_split_page
thp_underused_split_page thp_split_pmd thp_scan_exceed_none_pte thp_scan_exceed_swap_pte thp_scan_exceed_share_pte
thp_split_pud thp_zero_page_alloc thp_zero_page_alloc_failed thp_swpout thp_swpout_fallback
balloon_inflate balloon_deflate balloon_migrate swap_ra swap_ra_hit swpin_zero swpout_zero ksm_swpin_copy cow_ksm
zswpin zswpout zswpwb direct_map_level2_splits direct_map_level3_splits direct_map_level2_collapses direct_map_level3_collapses
vma_lock_success vma_lock_abort vma_lock_retry vma_lock_miss`

type vmField struct {
	name    string
	counter bool
}

type vmstatCollector struct {
	*env
	fields   map[string]vmField
	pageSize float64
}

func newVmstat(e *env) collector {
	c := &vmstatCollector{env: e, fields: make(map[string]vmField), pageSize: float64(os.Getpagesize())}
	for _, f := range strings.Fields(vmFields) {
		c.fields[f] = vmField{"vm." + f, vmCounter(f)}
	}
	return c
}

// vmCounter tells events from levels. nr_* are levels except the few that only grow.
func vmCounter(field string) bool {
	switch field {
	case "nr_dirtied", "nr_written", "nr_throttled_written", "nr_vmscan_write", "nr_vmscan_immediate_reclaim",
		"nr_foll_pin_acquired", "nr_foll_pin_released":
		return true
	case "workingset_nodes":
		return false
	}
	return !strings.HasPrefix(field, "nr_") && !strings.HasSuffix(field, "_threshold")
}

func (c *vmstatCollector) Name() string { return "vmstat" }

func (c *vmstatCollector) Signals() []tune.Signal {
	var out []tune.Signal
	for _, f := range strings.Fields(vmFields) {
		unit, help := "pages", "pages now, as the kernel counts "+f
		if vmCounter(f) {
			unit, help = "events", "the kernel's event counter "+f
		}
		out = append(out, tune.Signal{Name: "vm." + f, Unit: unit, Counter: vmCounter(f), Help: help, Source: "/proc/vmstat"})
	}
	return append(out, table("", "/proc/vmstat", `
vm.allocstall | +events | allocations that had to reclaim memory themselves, all zones
vm.dirtied_bytes | +bytes | page cache made dirty
vm.written_bytes | +bytes | page cache written back
vm.dirty_of_limit_share | share | dirty pages over the threshold at which writers are throttled
vm.dirty_of_background_share | share | dirty pages over the threshold at which the flushers start
vm.direct_reclaim_share | share | pages scanned by allocating tasks over all scanned
vm.reclaim_efficiency | share | pages reclaimed over pages scanned
vm.thp_fallback_share | share | huge-page faults that fell back to small pages`)...)
}

func (c *vmstatCollector) Collect(_ context.Context, f *frame) error {
	b, err := c.files.read("proc/vmstat")
	if err != nil {
		return err
	}
	h := f.host()
	var dirty, limit, background, stalls float64
	err = parseKeyValues(b, func(key []byte, v float64) {
		field, ok := c.fields[string(key)]
		if !ok {
			return
		}
		if !field.counter {
			h.gauge(field.name, v)
		} else {
			h.counter(field.name, v)
		}
		switch field.name {
		case "vm.nr_dirty":
			dirty = v
		case "vm.nr_dirty_threshold":
			limit = v
		case "vm.nr_dirty_background_threshold":
			background = v
		case "vm.nr_dirtied":
			h.counter("vm.dirtied_bytes", v*c.pageSize)
		case "vm.nr_written":
			h.counter("vm.written_bytes", v*c.pageSize)
		case "vm.allocstall_dma", "vm.allocstall_dma32", "vm.allocstall_normal", "vm.allocstall_movable", "vm.allocstall_device":
			stalls += v
		}
	})
	if err != nil {
		return err
	}
	h.counter("vm.allocstall", stalls)
	if limit > 0 {
		h.gauge("vm.dirty_of_limit_share", dirty/limit)
	}
	if background > 0 {
		h.gauge("vm.dirty_of_background_share", dirty/background)
	}
	return nil
}

func (c *vmstatCollector) Derive(v *view) {
	v.host.ratio("vm.direct_reclaim_share", []string{"vm.pgscan_direct"}, []string{"vm.pgscan_direct", "vm.pgscan_kswapd"})
	v.host.ratio("vm.reclaim_efficiency", []string{"vm.pgsteal_direct", "vm.pgsteal_kswapd"},
		[]string{"vm.pgscan_direct", "vm.pgscan_kswapd"})
	v.host.ratio("vm.thp_fallback_share", []string{"vm.thp_fault_fallback"},
		[]string{"vm.thp_fault_fallback", "vm.thp_fault_alloc"})
}
