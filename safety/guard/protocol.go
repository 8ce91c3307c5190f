package guard

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"semantos/internal/tune"
	"semantos/safety/audit"
	"semantos/safety/journal"
)

// The protocol between a command and its guard: frames of a 4 byte big-endian length and one JSON
// value, requests answered in order, a lease not answered at all. Requests name things; no path,
// descriptor or pid crosses.

// protocolVersion changes whenever a frame's meaning does: parent and guard are the same binary, so it
// only ever differs while an upgrade replaces the file between the two.
const protocolVersion = 1

// maxFrame bounds a request, and maxReply what the guard says: everything that is held is more than anybody
// may ask for at once.
const maxFrame, maxReply = 1 << 20, 16 << 20

// maxNote bounds the free text that goes with a request into the journal.
const maxNote = 16 << 10

type verb string

const (
	verbHello    verb = "hello"
	verbApply    verb = "apply"
	verbRevert   verb = "revert"
	verbCommit   verb = "commit"
	verbRollback verb = "rollback"
	verbPersist  verb = "persist"
	verbReopen   verb = "reopen"
	verbRelease  verb = "release"
	verbFreeze   verb = "freeze"
	verbThaw     verb = "thaw"
	verbFrozen   verb = "frozen"
	verbManaged  verb = "managed"
	verbWho      verb = "who"
	verbNote     verb = "note"
	verbAudit    verb = "audit"
	verbLease    verb = "lease"
	verbBye      verb = "bye"
)

type wireRequest struct {
	ID      uint64        `json:"id"`
	Verb    verb          `json:"verb"`
	Version int           `json:"version,omitempty"`
	Rollout string        `json:"rollout,omitempty"`
	Changes []tune.Change `json:"changes,omitempty"`
	Targets []string      `json:"targets,omitempty"` // revert: only what is on these
	Actor   string        `json:"actor,omitempty"`
	Note    *audit.Entry  `json:"note,omitempty"`
	Why     string        `json:"why,omitempty"`

	bad error // why it was refused as it was read; the rest is dropped then
}

type wireReply struct {
	ID       uint64         `json:"id"`
	Error    *wireError     `json:"error,omitempty"`
	Version  int            `json:"version,omitempty"`
	Pid      int            `json:"pid,omitempty"`
	Notes    []string       `json:"notes,omitempty"`
	Weak     []string       `json:"weak,omitempty"`
	Applied  []Applied      `json:"applied,omitempty"`
	Restored []Restored     `json:"restored,omitempty"`
	Managed  []tune.Managed `json:"managed,omitempty"`
	Told     []string       `json:"told,omitempty"` // who: a sentence for each change
	Files    []string       `json:"files,omitempty"`
	Frozen   *tune.Freeze   `json:"frozen,omitempty"`
	Audit    *Audited       `json:"audit,omitempty"`
}

// Applied is one change made, with what the kernel reads back.
type Applied struct {
	Change   tune.Change `json:"change"`
	ReadBack tune.Value  `json:"read_back"`
}

// Restored is what became of one managed tunable when it was to be put back.
type Restored struct {
	Tunable string     `json:"tunable"`
	Scope   tune.Scope `json:"scope"`
	Target  string     `json:"target"`
	Found   tune.Value `json:"found"`   // before
	Value   tune.Value `json:"value"`   // after
	Outcome Outcome    `json:"outcome"` // restored, already, yielded, gone, handed_on, failed
	Detail  string     `json:"detail,omitempty"`
	Rollout string     `json:"rollout"`

	asked *question // of a yield: who made it so
}

// Outcome is how a restore ended.
type Outcome string

// The outcomes. HandedOn: a younger rollout holds the same tunable and now owns the original.
const (
	PutBack  Outcome = "restored"
	Already  Outcome = "already"
	Yielded  Outcome = "yielded"
	Gone     Outcome = "gone"
	HandedOn Outcome = "handed_on"
	Failed   Outcome = "failed"
)

// ErrEnded says that the rollout was ended by the guard: its lease lapsed, or it was rolled back.
var ErrEnded = errors.New("rollout has ended")

var errProtocol = errors.New("broken guard protocol")

var errTooLong = fmt.Errorf("%w: the frame is too long", errProtocol)

func writeFrame(w io.Writer, q wireRequest) error {
	frame, err := encodeFrame(maxFrame, q)
	if err != nil {
		return err
	}
	_, err = w.Write(frame)
	return err
}

func encodeFrame(most int, v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode frame: %w", err)
	}
	if len(body) > most {
		return nil, fmt.Errorf("%w: %d bytes", errTooLong, len(body))
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	return append(frame, body...), nil
}

func readFrame(r io.Reader, q *wireRequest) error { return readUpTo(maxFrame, r, q) }

func readReply(r io.Reader, reply *wireReply) error { return readUpTo(maxReply, r, reply) }

func readUpTo(most uint32, r io.Reader, into any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > most {
		return fmt.Errorf("%w: frame of %d bytes", errProtocol, n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return fmt.Errorf("read frame: %w", err)
	}
	if err := journal.StrictJSON(body, into); err != nil {
		return fmt.Errorf("%w: %w", errProtocol, err)
	}
	return nil
}

// check refuses a request that carries what its verb does not take.
func (q wireRequest) check() error {
	takesRollout, takesChanges, takesActor := false, false, false
	switch q.Verb {
	case verbHello, verbManaged, verbFrozen, verbAudit, verbLease, verbBye:
	case verbNote:
		if q.Note == nil {
			return fmt.Errorf("%w: nothing to note: %w", errProtocol, tune.ErrUsage)
		}
		if err := q.Note.Check(); err != nil {
			return err
		}
	case verbWho:
		takesChanges = true
	case verbApply, verbRelease:
		takesRollout, takesChanges, takesActor = true, true, true
	case verbRollback:
		takesRollout, takesActor = true, true
	case verbFreeze, verbThaw:
		takesActor = true
		if q.Actor == "" {
			return fmt.Errorf("%w: %s by nobody: %w", errProtocol, q.Verb, tune.ErrUsage)
		}
	case verbRevert, verbCommit, verbPersist, verbReopen:
		takesRollout = true
	default:
		return fmt.Errorf("%w: unknown verb %.100q", errProtocol, q.Verb)
	}
	switch {
	case takesRollout && !validRollout(q.Rollout), !takesRollout && q.Rollout != "":
		return fmt.Errorf("%w: rollout %.100q with %s: %w", errProtocol, q.Rollout, q.Verb, tune.ErrUsage)
	case takesChanges != (len(q.Changes) > 0):
		return fmt.Errorf("%w: %d changes with %s: %w", errProtocol, len(q.Changes), q.Verb, tune.ErrUsage)
	case len(q.Changes) > maxChanges:
		return &tune.Error{Op: "apply", Subject: q.Rollout, Err: fmt.Errorf("%w: %d changes", tune.ErrUsage, len(q.Changes)),
			Hint: fmt.Sprintf("try at most %d writes together", maxChanges)}
	case q.Verb != verbRevert && len(q.Targets) > 0, len(q.Targets) > maxChanges, slices.Contains(q.Targets, ""):
		return fmt.Errorf("%w: %d targets with %s: %w", errProtocol, len(q.Targets), q.Verb, tune.ErrUsage)
	case !takesActor && q.Actor != "", len(q.Actor) > maxNote:
		return fmt.Errorf("%w: actor with %s: %w", errProtocol, q.Verb, tune.ErrUsage)
	case q.Verb != verbFreeze && q.Why != "", len(q.Why) > maxNote:
		return fmt.Errorf("%w: reason with %s: %w", errProtocol, q.Verb, tune.ErrUsage)
	case q.Verb != verbNote && q.Note != nil:
		return fmt.Errorf("%w: note with %s: %w", errProtocol, q.Verb, tune.ErrUsage)
	case (q.Verb == verbHello) != (q.Version != 0):
		return fmt.Errorf("%w: version with %s: %w", errProtocol, q.Verb, tune.ErrUsage)
	}
	return nil
}

// validRollout keeps ids usable as file names.
func validRollout(id string) bool {
	if id == "" || len(id) > 100 || id[0] == '.' {
		return false
	}
	for _, c := range id {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}
