package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"semantos/internal/privilege"
	"semantos/internal/tune"
	"semantos/safety/guard"
	"semantos/safety/lookout"
)

// handoverEnv names the descriptor in which serve, started by root, leaves a note to itself for after the
// change of user. It is no setting, so it has not the prefix of one.
const handoverEnv = "_SEMANTOS_HANDOVER"

// handover is what goes over the exec: open descriptors, and what only root could read.
type handover struct {
	Control  int     `json:"control"` // the listening unix socket
	Web      int     `json:"web"`     // LISTEN
	Guard    int     `json:"guard"`
	GuardPid int     `json:"guard_pid"`
	Look     int     `json:"look"`
	UID      int     `json:"uid"`              // whom we became
	Config   *string `json:"config,omitempty"` // the text of the configuration file, which may be root's alone

	client *guard.Client
	looks  *lookout.Client
}

// maxHandover bounds the note; a configuration file is some kilobytes.
const maxHandover = 4 << 20

// leave writes the note into memory and gives its descriptor, which exec keeps open as those it names.
func (h *handover) leave() (int, error) {
	text, err := json.Marshal(h)
	if err != nil || len(text) > maxHandover {
		return -1, errors.Join(fmt.Errorf("hand over %d bytes: %w", len(text), tune.ErrUsage), err)
	}
	fd, err := unix.MemfdCreate("handover", 0)
	if err != nil {
		return -1, fmt.Errorf("hand over: %w", err)
	}
	if n, err := unix.Pwrite(fd, text, 0); err != nil || n != len(text) {
		return -1, fmt.Errorf("hand over: %d of %d bytes: %w", n, len(text), errors.Join(err, tune.ErrStorage))
	}
	for _, keep := range []int{h.Control, h.Web, h.Guard, h.Look} {
		if _, err := unix.FcntlInt(uintptr(keep), unix.F_SETFD, 0); err != nil {
			return -1, fmt.Errorf("hand over descriptor %d: %w", keep, err)
		}
	}
	return fd, nil
}

// takeOver reads the note that an earlier program of this process left; nil when there is none. The variable
// goes, so that it is read once.
func (a *app) takeOver() (*handover, error) {
	at := slices.IndexFunc(a.env, func(e string) bool { return strings.HasPrefix(e, handoverEnv+"=") })
	if at < 0 {
		return nil, nil
	}
	text := strings.TrimPrefix(a.env[at], handoverEnv+"=")
	a.env = slices.Delete(slices.Clone(a.env), at, at+1)
	bad := func(err error) error {
		return &tune.Error{Op: "take over", Subject: handoverEnv + "=" + text, Err: fmt.Errorf("%w: %w", tune.ErrUsage, err),
			Hint: "semantos sets it for itself; unset it"}
	}
	fd, err := strconv.ParseUint(text, 10, 20)
	if err != nil || fd < 3 {
		return nil, bad(errors.Join(errors.New("it names no descriptor"), err))
	}
	f := os.NewFile(uintptr(fd), "handover")
	defer f.Close()
	data, err := io.ReadAll(io.NewSectionReader(f, 0, maxHandover))
	if err != nil {
		return nil, bad(err)
	}
	h := &handover{}
	if err := json.Unmarshal(data, h); err != nil {
		return nil, bad(err)
	}
	if err := h.check(); err != nil {
		return nil, bad(err)
	}
	return h, nil
}

// check makes sure that the descriptors are what the note calls them, and closes them to any child.
func (h *handover) check() error {
	if h.UID != os.Geteuid() || h.UID == 0 {
		return fmt.Errorf("it is uid %d's", h.UID)
	}
	for _, want := range []struct {
		name                 string
		fd, domain, kind     int
		listens, anyInternet bool
	}{
		{"control", h.Control, unix.AF_UNIX, unix.SOCK_STREAM, true, false},
		{"web", h.Web, unix.AF_INET, unix.SOCK_STREAM, true, true},
		{"guard", h.Guard, unix.AF_UNIX, unix.SOCK_STREAM, false, false},
		{"look", h.Look, unix.AF_UNIX, unix.SOCK_SEQPACKET, false, false},
	} {
		domain, err := unix.GetsockoptInt(want.fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		kind, err2 := unix.GetsockoptInt(want.fd, unix.SOL_SOCKET, unix.SO_TYPE)
		accepts, err3 := unix.GetsockoptInt(want.fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		sameDomain := domain == want.domain || want.anyInternet && domain == unix.AF_INET6
		if err := errors.Join(err, err2, err3); err != nil || want.fd < 3 || !sameDomain || kind != want.kind || (accepts == 1) != want.listens {
			return errors.Join(fmt.Errorf("descriptor %d is no %s socket", want.fd, want.name), err)
		}
		unix.CloseOnExec(want.fd)
	}
	return nil
}

// open makes descriptors into what serve uses.
func (h *handover) open() (control, web net.Listener, err error) {
	listener := func(fd int, name string) net.Listener {
		f := os.NewFile(uintptr(fd), name)
		defer f.Close() // the listener has a descriptor of its own
		l, lErr := net.FileListener(f)
		err = errors.Join(err, lErr)
		return l
	}
	control, web = listener(h.Control, "control"), listener(h.Web, "web")
	if err != nil {
		return nil, nil, fmt.Errorf("take listeners over: %w", err)
	}
	if h.looks, err = lookout.NewClient(os.NewFile(uintptr(h.Look), "look")); err != nil {
		return nil, nil, err
	}
	h.client, err = guard.Adopt(os.NewFile(uintptr(h.Guard), "guard"), h.GuardPid, 0)
	return control, web, err
}

// keeps are the capabilities serve goes on with: what loads probes, where they are wanted.
func (a *app) keeps() []privilege.Capability {
	if a.cfg.UseEBPF == "off" {
		return nil
	}
	return []privilege.Capability{privilege.BPF, privilege.Perfmon}
}
