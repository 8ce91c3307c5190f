package lookout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"semantos/internal/host"
	"semantos/internal/tune"
)

// verb says what is looked at.
type verb string

const (
	verbRead       verb = "read"       // a tunable's value on a target
	verbProbe      verb = "probe"      // what the guard could do with it
	verbNamespaces verb = "namespaces" // the network namespaces with sockets
	verbOwners     verb = "owners"     // who holds sockets
	verbProcess    verb = "process"    // what a process uses
	verbDiag       verb = "diag"       // a sock_diag socket of a namespace, as descriptor
	verbStatistics verb = "statistics" // the kernel's run-time statistics of BPF, on while the descriptor is open
	verbKills      verb = "kills"      // who was killed at a control group's memory limit
)

// The bounds of one request and of what it is answered. A packet longer than maxPacket is refused by
// either side.
const (
	maxPacket = 128 << 10
	maxInodes = 256 // owners asked for at once
	maxPids   = 32  // told of one socket
	maxName   = 1024
)

type request struct {
	ID     uint64          `json:"id"`
	Verb   verb            `json:"verb"`
	Name   string          `json:"name,omitempty"`
	Target string          `json:"target,omitempty"`
	Inodes []uint64        `json:"inodes,omitempty"`
	Pid    int             `json:"pid,omitempty"`
	Start  uint64          `json:"start,omitempty"`
	Want   *host.UseWanted `json:"want,omitempty"`
}

type reply struct {
	ID         uint64                `json:"id"`
	Error      *fault                `json:"error,omitempty"`
	Value      tune.Value            `json:"value,omitempty"`
	Capability *tune.Capability      `json:"capability,omitempty"`
	Namespaces []host.Netns          `json:"namespaces,omitempty"`
	Owners     map[uint64]host.Owner `json:"owners,omitempty"`
	Use        *host.ProcessUse      `json:"use,omitempty"`
	Kills      []host.Kill           `json:"kills,omitempty"`
}

// check refuses what a verb does not take.
func (q request) check() error {
	named := q.Verb == verbRead || q.Verb == verbProbe
	ok := len(q.Name) <= maxName && len(q.Target) <= maxName && named == (q.Name != "") &&
		(named || q.Verb == verbDiag) == (q.Target != "") &&
		(q.Verb == verbOwners) == (len(q.Inodes) > 0) && len(q.Inodes) <= maxInodes &&
		(q.Verb == verbProcess) == (q.Pid > 0) && (q.Verb == verbProcess) == (q.Want != nil)
	switch q.Verb {
	case verbRead, verbProbe, verbNamespaces, verbOwners, verbProcess, verbDiag, verbStatistics, verbKills:
	default:
		ok = false
	}
	if !ok {
		return fmt.Errorf("request %q: %w", q.Verb, tune.ErrUsage)
	}
	return nil
}

// strict decodes one value and nothing after it.
func strict(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("more than one value")
	}
	return nil
}

// fault carries an error to the other side, with the sentinels behind it.
type fault struct {
	Text  string   `json:"text"`
	Hint  string   `json:"hint,omitempty"`
	Kinds []string `json:"kinds,omitempty"`
}

func kinds() map[string]error {
	return map[string]error{"no_data": tune.ErrNoData, "unsupported": tune.ErrUnsupported, "not_permitted": tune.ErrNotPermitted,
		"read_only": tune.ErrReadOnly, "unknown": tune.ErrUnknown, "denied": tune.ErrDenied, "gone": tune.ErrGone,
		"usage": tune.ErrUsage, "corrupt": tune.ErrCorrupt, "busy": tune.ErrBusy}
}

func newFault(err error) *fault {
	f := &fault{Text: err.Error(), Hint: tune.Hint(err)}
	for name, kind := range kinds() {
		if errors.Is(err, kind) {
			f.Kinds = append(f.Kinds, name)
		}
	}
	return f
}

// told is an error the guard reported.
type told struct {
	text   string
	behind error
}

func (e *told) Error() string { return e.text }
func (e *told) Unwrap() error { return e.behind }

func (f *fault) error() error {
	if f == nil {
		return nil
	}
	known := kinds()
	var behind []error
	for _, name := range f.Kinds {
		if known[name] != nil {
			behind = append(behind, known[name])
		}
	}
	return &told{text: f.Text, behind: &tune.Error{Err: errors.Join(behind...), Hint: f.Hint}}
}
