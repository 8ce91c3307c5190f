package telemetry

import (
	"context"
	"os"

	"github.com/prometheus/procfs"

	"semantos/internal/tune"
)

type buddyCollector struct{ *env }

func newBuddy(e *env) collector { return &buddyCollector{e} }

func (c *buddyCollector) Name() string { return "buddy" }

func (c *buddyCollector) Signals() []tune.Signal {
	return table("", "/proc/buddyinfo", `
buddy.free_bytes | bytes | free memory in the buddy allocator
buddy.high_order_share | share | free memory that lies in blocks of 2 MiB or more
buddy.contiguous_64k_share | share | free memory that lies in blocks of 64 KiB or more`)
}

func (c *buddyCollector) Collect(_ context.Context, f *frame) error {
	fs, err := procfs.NewFS(c.host.Path("proc"))
	if err != nil {
		return fileError("/proc", err)
	}
	zones, err := fs.BuddyInfo()
	if err != nil {
		return fileError("proc/buddyinfo", err)
	}
	if len(zones) == 0 {
		return corrupt("proc/buddyinfo", nil)
	}
	var free, huge, mid float64
	page := float64(os.Getpagesize())
	for _, z := range zones {
		size := page
		for _, n := range z.Sizes {
			free += n * size
			if size >= 2<<20 {
				huge += n * size
			}
			if size >= 64<<10 {
				mid += n * size
			}
			size *= 2
		}
	}
	f.host().gauge("buddy.free_bytes", free)
	share(f.host(), "buddy.high_order_share", huge, free)
	share(f.host(), "buddy.contiguous_64k_share", mid, free)
	return nil
}
