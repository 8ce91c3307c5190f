package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// noLatency is what the kernel answers while nobody asks for a latency
// (PM_QOS_CPU_LATENCY_DEFAULT_VALUE of linux/pm_qos.h, 2000 s).
const noLatency = 2000 * 1000000

// latencyAccess reaches /dev/cpu_dma_latency: a request holds while its descriptor is open, so the
// host keeps it until the value is put back, Close, or the end of the process.
type latencyAccess struct {
	h *Host
	t *tune.Tunable
}

func (h *Host) withLatency(t *tune.Tunable, fn func(access) error) error {
	if !h.real() {
		return subject("reach", t, "host", fmt.Errorf("a device below a root: %w", tune.ErrUnsupported))
	}
	return fn(&latencyAccess{h: h, t: t})
}

const latencyDevice = "/dev/cpu_dma_latency"

func (a *latencyAccess) open(flags int) (int, error) {
	fd, err := unix.Open(latencyDevice, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR {
		unix.Close(fd)
		return -1, fmt.Errorf("%s is no device: %w", latencyDevice, tune.ErrUnsupported)
	}
	return fd, nil
}

func (a *latencyAccess) fail(op string, ph phase, v tune.Value, err error) error {
	if errors.Is(err, unix.ENOENT) {
		return subject(op, a.t, "host", fmt.Errorf("%s is absent: %w", latencyDevice, tune.ErrUnsupported))
	}
	cause, hint := explain(ph, v, err)
	return subjectHint(op, a.t, "host", cause, hint)
}

func (a *latencyAccess) read() (tune.Value, error) {
	fd, err := a.open(unix.O_RDONLY)
	if err != nil {
		return "", a.fail("read", opening, "", err)
	}
	defer unix.Close(fd)
	var b [4]byte
	if n, err := unix.Pread(fd, b[:], 0); err != nil || n != len(b) {
		return "", a.fail("read", reading, "", fmt.Errorf("%d bytes: %w", n, errors.Join(err, tune.ErrNoData)))
	}
	us := int32(binary.NativeEndian.Uint32(b[:]))
	if us >= noLatency {
		return "none", nil
	}
	return tune.Value(strconv.Itoa(int(us))), nil
}

func (a *latencyAccess) probe() error {
	fd, err := a.open(unix.O_RDWR)
	if err != nil {
		return a.fail("write", openingToWrite, "", err)
	}
	return unix.Close(fd)
}

func (a *latencyAccess) write(v tune.Value) error {
	if v == "none" {
		return a.h.dropLatency()
	}
	us, err := strconv.ParseInt(string(v), 10, 32)
	if err != nil || us < 0 || us > math.MaxInt32 {
		return subject("write", a.t, "host", fmt.Errorf("%q: %w", string(v), tune.ErrOutOfRange))
	}
	a.h.mu.Lock()
	defer a.h.mu.Unlock()
	fd := a.h.dma
	if fd < 0 {
		if fd, err = a.open(unix.O_RDWR); err != nil {
			return a.fail("write", openingToWrite, v, err)
		}
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(us))
	if _, err := unix.Write(fd, b[:]); err != nil {
		if fd != a.h.dma {
			unix.Close(fd)
		}
		return a.fail("write", writing, v, err)
	}
	a.h.dma = fd
	return nil
}

// restore drops our request whatever stood before: another's request is not ours to repeat.
func (a *latencyAccess) restore(tune.Value) error { return a.h.dropLatency() }

func (h *Host) dropLatency() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dma < 0 {
		return nil
	}
	fd := h.dma
	h.dma = -1
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("close %s: %w", latencyDevice, err)
	}
	return nil
}
