package host

import (
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// drainReads bounds what one drain takes, and readBytes what one read does: each event brings two descriptors.
const drainReads, readBytes = 256, 1 << 10

// drain reads what is queued, and reports whether that was all. The caller holds the lock.
func (w *FileWatch) drain(group int) bool {
	buf := make([]byte, readBytes)
	for range drainReads {
		n, err := unix.Read(group, buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return true
		case err != nil: // an event whose file could not be opened; the next read gives the one behind it
			w.lose()
			continue
		case n == 0:
			return true
		}
		for rest := buf[:n]; len(rest) > 0; {
			length := metadataLen
			if len(rest) >= metadataLen {
				length = int(binary.NativeEndian.Uint32(rest))
			}
			if length < metadataLen || length > len(rest) {
				w.lose()
				break
			}
			w.take(rest[:length])
			rest = rest[length:]
		}
	}
	return false
}

// lose says of every file that writes may have been missed.
func (w *FileWatch) lose() {
	for _, m := range w.marks {
		m.add(tune.Written{Time: time.Now(), Lost: 1})
	}
}

func (m *mark) add(e tune.Written) {
	if len(m.writes) == maxWrites {
		m.since = m.writes[0].Time
		m.writes = append(m.writes[:0], m.writes[1:]...)
	}
	m.writes = append(m.writes, e)
}

// metadataLen is the size of struct fanotify_event_metadata: u32 length, u8 version, u8, u16 its own length,
// u64 mask, s32 descriptor, s32 pid.
const metadataLen = unix.FAN_EVENT_METADATA_LEN

// pidfdOf finds the writer's descriptor behind the metadata; -1 when it had ended.
func pidfdOf(event []byte) int {
	for rest := event[min(len(event), int(binary.NativeEndian.Uint16(event[6:]))):]; len(rest) >= 8; {
		length := int(binary.NativeEndian.Uint16(rest[2:]))
		if rest[0] == unix.FAN_EVENT_INFO_TYPE_PIDFD {
			return int(int32(binary.NativeEndian.Uint32(rest[4:])))
		}
		if length < 4 || length > len(rest) {
			break
		}
		rest = rest[length:]
	}
	return -1
}

// take keeps one event, and closes what came with it.
func (w *FileWatch) take(event []byte) {
	mask := binary.NativeEndian.Uint64(event[8:])
	file, pid := int(int32(binary.NativeEndian.Uint32(event[16:]))), int(int32(binary.NativeEndian.Uint32(event[20:])))
	pidfd := pidfdOf(event)
	if pidfd >= 0 {
		defer unix.Close(pidfd)
	}
	if file < 0 || mask&unix.FAN_Q_OVERFLOW != 0 {
		w.lose()
		return
	}
	defer unix.Close(file)
	id, err := inodeOf(file)
	m := w.marks[id]
	if err != nil || m == nil {
		return // let go of meanwhile
	}
	e := tune.Written{Time: time.Now(), PID: pid, UID: -1, Own: pid == os.Getpid()}
	if text, err := readAll(file); err == nil {
		e.Value = m.file.value(text)
	} else {
		e.Cut = true
	}
	if !e.Own && pidfd >= 0 {
		identify(&e, pidfd)
	}
	// Opening with truncation and writing are two events of one write: the newer one says what came of it.
	if n := len(m.writes); n > 0 && m.writes[n-1].PID == e.PID && m.writes[n-1].Lost == 0 && e.PID != 0 {
		if was := m.writes[n-1]; was.Start == e.Start || e.Comm == "" {
			was.Time, was.Value, was.Cut = e.Time, e.Value, e.Cut
			m.writes[n-1] = was
			return
		}
	}
	m.add(e)
}

// identify reads who a process is, if it is still the one of the descriptor afterwards.
func identify(e *tune.Written, pidfd int) {
	dir := "/proc/" + strconv.Itoa(e.PID)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return
	}
	got := *e
	name, fields, err := statFields(string(stat))
	if err != nil {
		return
	}
	got.Comm = name
	got.Parent, _ = strconv.Atoi(fields[1])
	got.Start, _ = strconv.ParseUint(fields[19], 10, 64)
	got.Exe, _ = os.Readlink(dir + "/exe") // one that has just ended has none
	got.ParentComm = comm("/proc", got.Parent)
	if status, err := os.ReadFile(dir + "/status"); err == nil {
		if _, rest, ok := strings.Cut(string(status), "\nUid:"); ok {
			if ids := strings.Fields(rest); len(ids) > 0 {
				if uid, err := strconv.Atoi(ids[0]); err == nil {
					got.UID = uid
				}
			}
		}
	}
	if unix.PidfdSendSignal(pidfd, 0, nil, 0) == nil {
		*e = got
	}
}
