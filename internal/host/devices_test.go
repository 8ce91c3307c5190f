package host_test

import (
	"errors"
	"testing"
	"time"

	"semantos/internal/host"
	"semantos/internal/host/hosttest"
	"semantos/internal/tune"
)

func TestDeviceUses(t *testing.T) {
	t.Parallel()
	stats := func(dir string) map[string]string {
		out := map[string]string{}
		for i, name := range []string{"rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_dropped", "tx_dropped", "rx_errors", "tx_errors"} {
			out["sys/class/net/"+dir+"/statistics/"+name] = string(rune('1'+i)) + "\n"
		}
		return out
	}
	files := stats("eth0")
	files["sys/class/net/bonding_masters"] = "bond0\n"
	files["proc/diskstats"] = " 254 0 vda 10 1 100 30 20 2 200 70 3 40 100 5 5 5 5 1 1\n" +
		" 254 1 vda1 10 1 100 30 20 2 200 70 3 40 100 5 5 5 5 1 1\n" +
		" 253 0 dm-0 1 0 8 4 0 0 0 0 0 4 4\n" +
		"   9 0 short 1 2 3\n" +
		" 253 9 odd 1 0 x 4 0 0 0 0 0 4 4\n"
	files["sys/block/vda/mq/0/nr_tags"] = "64\n"
	files["sys/block/dm-0/size"] = "8\n"
	h := hosttest.Tree(t, files)
	blocks, err := h.DeviceUses(host.BlockDevices)
	if err != nil || len(blocks) != 2 {
		t.Fatalf("%+v %v", blocks, err)
	}
	if got, want := blocks["vda"], (host.DeviceUse{Done: 30, Bytes: 300 * 512, Waited: 100 * time.Millisecond, Flying: 3, Timed: true}); got != want {
		t.Errorf("vda %+v, want %+v", got, want)
	}
	if got, want := blocks["dm-0"], (host.DeviceUse{Done: 1, Bytes: 4096, Waited: 4 * time.Millisecond}); got != want {
		t.Errorf("dm-0 %+v, want %+v", got, want)
	}
	links, err := h.DeviceUses(host.LinkDevices)
	if got, want := links["eth0"], (host.DeviceUse{Done: 3, Bytes: 7, Failed: 26}); err != nil || len(links) != 1 || got != want {
		t.Errorf("%+v %v, want eth0 %+v", links, err, want)
	}
	if _, err := h.DeviceUses("usb"); !errors.Is(err, tune.ErrUnknown) {
		t.Errorf("another family: %v", err)
	}
	if _, ok := blocks["dm-0"].Since(blocks["vda"]); ok {
		t.Error("counters that went back are taken for work done")
	}
	if d, ok := blocks["vda"].Since(blocks["dm-0"]); !ok || d.Done != 29 || d.Flying != 3 || d.Waited != 96*time.Millisecond {
		t.Errorf("since: %+v", d)
	}
}
