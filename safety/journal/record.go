package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"semantos/internal/tune"
	"semantos/safety/audit"
)

// Kind says what a journal record tells.
type Kind string

// The kinds. intent, committed, persisting, persisted and closed are synced to disk before anything
// depends on them; the others describe what has already happened.
const (
	Intent      Kind = "intent"      // this value is about to be written
	Done        Kind = "done"        // it was written and reads back so
	Again       Kind = "again"       // a value journaled before is written again
	Reverted    Kind = "reverted"    // put back, the rollout goes on
	Restored    Kind = "restored"    // put back for good
	Yielded     Kind = "yielded"     // something else set it: left alone
	Gone        Kind = "gone"        // the target does not exist any more
	Rebased     Kind = "rebased"     // an older rollout below ended: its original is ours now
	Committed   Kind = "committed"   // kept until rollback or reboot
	Persisting  Kind = "persisting"  // these files are about to be written
	Persisted   Kind = "persisted"   // they are written
	Unpersisted Kind = "unpersisted" // they are as before
	Releasing   Kind = "releasing"   // let go of, while the rest of its rollout stands; files are as they will be
	Released    Kind = "released"    // that is done
	Retained    Kind = "retained"    // that was given up before it began
	Closed      Kind = "closed"      // nothing of this rollout is held
	Reopened    Kind = "reopened"    // after that it goes on, from what stands then
)

func (k Kind) known() bool {
	switch k {
	case Intent, Done, Again, Reverted, Restored, Yielded, Gone, Rebased,
		Committed, Persisting, Persisted, Unpersisted, Releasing, Released, Retained, Closed, Reopened:
		return true
	}
	return false
}

// afterwards reports whether a record tells of what has been undone already, so that it is true however
// few of its places could be written.
func (k Kind) afterwards() bool {
	switch k {
	case Reverted, Restored, Yielded, Gone, Rebased, Unpersisted, Released, Retained, Closed:
		return true
	}
	return false
}

// Record is one line of the journal.
type Record struct {
	Seq      uint64        `json:"seq"`
	Kind     Kind          `json:"kind"`
	Time     time.Time     `json:"time"`
	Rollout  string        `json:"rollout"`
	Tunable  string        `json:"tunable,omitempty"`
	Target   string        `json:"target,omitempty"`
	How      *How          `json:"how,omitempty"`
	Identity tune.Identity `json:"identity,omitempty"`
	Old      tune.Value    `json:"old,omitempty"`
	New      tune.Value    `json:"new,omitempty"`
	ReadBack tune.Value    `json:"read_back,omitempty"`
	Pair     *Beside       `json:"counterpart,omitempty"`
	Also     []Beside      `json:"also_changes,omitempty"`
	Boot     string        `json:"boot_id,omitempty"`
	Actor    string        `json:"actor,omitempty"`
	DataDir  string        `json:"data_dir,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Files    []File        `json:"files,omitempty"`
	Log      *audit.Head   `json:"audit,omitempty"` // of the log of decisions and writes, as it was on disk then
}

// Beside is another tunable that a write moves: its counterpart, or one the kernel alters with it.
type Beside struct {
	Tunable string     `json:"tunable"`
	Target  string     `json:"target"`
	How     How        `json:"how"`
	Value   tune.Value `json:"value"`
}

// How is as much of a catalogue entry as a restore needs, so that a later command with another
// catalogue can still put the value back.
type How struct {
	Name        string      `json:"name"`
	Scope       tune.Scope  `json:"scope"`
	Method      tune.Method `json:"method"`
	Path        string      `json:"path"`
	Kind        tune.Kind   `json:"type"`
	Of          tune.Kind   `json:"of,omitempty"`
	Arity       int         `json:"arity,omitempty"`
	Counterpart string      `json:"counterpart,omitempty"`
}

// HowOf takes it from a catalogue entry.
func HowOf(t *tune.Tunable) How {
	return How{Name: t.Name, Scope: t.Scope, Method: t.Method, Path: t.Path, Kind: t.Kind, Of: t.Of,
		Arity: t.Arity, Counterpart: t.Counterpart}
}

// Tunable is as much of the entry as was kept.
func (h How) Tunable() *tune.Tunable {
	return &tune.Tunable{Name: h.Name, Scope: h.Scope, Method: h.Method, Path: h.Path, Kind: h.Kind, Of: h.Of,
		Arity: h.Arity, Counterpart: h.Counterpart}
}

// File is a configuration file written by persist, and what stood there before.
type File struct {
	Path    string `json:"path"` // below the root
	Content string `json:"content"`
	Existed bool   `json:"existed"`
	Before  string `json:"before,omitempty"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maxRecord bounds one line; a bundle's intent with its neighbours is far below.
const maxRecord = 1 << 20

// Encode gives the line of a record: the checksum covers the exact bytes of its JSON.
func Encode(r Record) ([]byte, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode journal record: %w", err)
	}
	if len(body) > maxRecord {
		return nil, fmt.Errorf("encode journal record of %d bytes: %w", len(body), tune.ErrOutOfRange)
	}
	line := fmt.Appendf(nil, `{"crc32c":"%08x","record":`, crc32.Checksum(body, castagnoli))
	line = append(line, body...)
	return append(line, '}', '\n'), nil
}

// Decode reads one line without its line end.
func Decode(line []byte) (Record, error) {
	var sealed struct {
		CRC    string          `json:"crc32c"`
		Record json.RawMessage `json:"record"`
	}
	if err := StrictJSON(line, &sealed); err != nil {
		return Record{}, err
	}
	if want := fmt.Sprintf("%08x", crc32.Checksum(sealed.Record, castagnoli)); sealed.CRC != want {
		return Record{}, fmt.Errorf("checksum is %q, should be %q", sealed.CRC, want)
	}
	var r Record
	if err := StrictJSON(sealed.Record, &r); err != nil {
		return Record{}, err
	}
	switch {
	case !r.Kind.known():
		return Record{}, fmt.Errorf("record kind %q is not known to this version", r.Kind)
	case r.Rollout == "":
		return Record{}, errors.New("record names no rollout")
	case r.Kind == Intent && (r.How == nil || r.Tunable == ""):
		return Record{}, errors.New("intent does not say what it writes")
	}
	return r, nil
}

// StrictJSON decodes exactly one value with no unknown field and nothing after it.
func StrictJSON(data []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if dec.InputOffset() != int64(len(bytes.TrimRight(data, " \t\r\n"))) {
		return errors.New("trailing bytes")
	}
	return nil
}

// Scanned is what a journal's bytes hold.
type Scanned struct {
	Records []Record
	Good    int64 // bytes up to the torn tail, if there is one
	Torn    int64 // bytes of an unfinished last record
	BadAt   int64 // byte offset of the first corrupt record; -1 when there is none
	Bad     error
}

// Scan reads all records. A last line without line end was cut by a crash before anything could
// depend on it, and is dropped. Any other unreadable line is corruption: the good records around it
// still count, for restoring.
func Scan(data []byte) Scanned {
	s := Scanned{BadAt: -1}
	var last uint64
	for off := 0; off < len(data); {
		end := bytes.IndexByte(data[off:], '\n')
		if end < 0 {
			s.Torn = int64(len(data) - off)
			break
		}
		r, err := Decode(data[off : off+end])
		if err == nil && last != 0 && r.Seq != last+1 {
			err = fmt.Errorf("sequence jumps from %d to %d", last, r.Seq)
			s.Records = append(s.Records, r) // readable, and a restore may need it
			last = r.Seq
		} else if err == nil {
			s.Records = append(s.Records, r)
			last = r.Seq
		}
		if err != nil && s.BadAt < 0 {
			s.BadAt, s.Bad = int64(off), err
		}
		off += end + 1
		s.Good = int64(off)
	}
	return s
}
