package guard

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

// recordKind says what a journal record tells.
type recordKind string

// The kinds. intent, committed, persisting, persisted and closed are synced to disk before anything
// depends on them; the others describe what has already happened.
const (
	kindIntent      recordKind = "intent"      // this value is about to be written
	kindDone        recordKind = "done"        // it was written and reads back so
	kindAgain       recordKind = "again"       // a value journaled before is written again
	kindReverted    recordKind = "reverted"    // put back, the rollout goes on
	kindRestored    recordKind = "restored"    // put back for good
	kindYielded     recordKind = "yielded"     // something else set it: left alone
	kindGone        recordKind = "gone"        // the target does not exist any more
	kindRebased     recordKind = "rebased"     // an older rollout below ended: its original is ours now
	kindCommitted   recordKind = "committed"   // kept until rollback or reboot
	kindPersisting  recordKind = "persisting"  // these files are about to be written
	kindPersisted   recordKind = "persisted"   // they are written
	kindUnpersisted recordKind = "unpersisted" // they are as before
	kindReleasing   recordKind = "releasing"   // let go of, while the rest of its rollout stands; files are as they will be
	kindReleased    recordKind = "released"    // that is done
	kindRetained    recordKind = "retained"    // that was given up before it began
	kindClosed      recordKind = "closed"      // nothing of this rollout is held
	kindReopened    recordKind = "reopened"    // after that it goes on, from what stands then
)

func (k recordKind) known() bool {
	switch k {
	case kindIntent, kindDone, kindAgain, kindReverted, kindRestored, kindYielded, kindGone, kindRebased,
		kindCommitted, kindPersisting, kindPersisted, kindUnpersisted, kindReleasing, kindReleased, kindRetained, kindClosed, kindReopened:
		return true
	}
	return false
}

// afterwards reports whether a record tells of what has been undone already, so that it is true however
// few of its places could be written.
func (k recordKind) afterwards() bool {
	switch k {
	case kindReverted, kindRestored, kindYielded, kindGone, kindRebased, kindUnpersisted, kindReleased, kindRetained, kindClosed:
		return true
	}
	return false
}

// record is one line of the journal.
type record struct {
	Seq      uint64        `json:"seq"`
	Kind     recordKind    `json:"kind"`
	Time     time.Time     `json:"time"`
	Rollout  string        `json:"rollout"`
	Tunable  string        `json:"tunable,omitempty"`
	Target   string        `json:"target,omitempty"`
	How      *how          `json:"how,omitempty"`
	Identity tune.Identity `json:"identity,omitempty"`
	Old      tune.Value    `json:"old,omitempty"`
	New      tune.Value    `json:"new,omitempty"`
	ReadBack tune.Value    `json:"read_back,omitempty"`
	Pair     *beside       `json:"counterpart,omitempty"`
	Also     []beside      `json:"also_changes,omitempty"`
	Boot     string        `json:"boot_id,omitempty"`
	Actor    string        `json:"actor,omitempty"`
	DataDir  string        `json:"data_dir,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Files    []keptFile    `json:"files,omitempty"`
	Log      *audit.Head   `json:"audit,omitempty"` // of the log of decisions and writes, as it was on disk then
}

// beside is another tunable that a write moves: its counterpart, or one the kernel alters with it.
type beside struct {
	Tunable string     `json:"tunable"`
	Target  string     `json:"target"`
	How     how        `json:"how"`
	Value   tune.Value `json:"value"`
}

// how is as much of a catalogue entry as a restore needs, so that a later command with another
// catalogue can still put the value back.
type how struct {
	Name        string      `json:"name"`
	Scope       tune.Scope  `json:"scope"`
	Method      tune.Method `json:"method"`
	Path        string      `json:"path"`
	Kind        tune.Kind   `json:"type"`
	Of          tune.Kind   `json:"of,omitempty"`
	Arity       int         `json:"arity,omitempty"`
	Counterpart string      `json:"counterpart,omitempty"`
}

func howOf(t *tune.Tunable) how {
	return how{Name: t.Name, Scope: t.Scope, Method: t.Method, Path: t.Path, Kind: t.Kind, Of: t.Of,
		Arity: t.Arity, Counterpart: t.Counterpart}
}

func (h how) tunable() *tune.Tunable {
	return &tune.Tunable{Name: h.Name, Scope: h.Scope, Method: h.Method, Path: h.Path, Kind: h.Kind, Of: h.Of,
		Arity: h.Arity, Counterpart: h.Counterpart}
}

// keptFile is a configuration file written by persist, and what stood there before.
type keptFile struct {
	Path    string `json:"path"` // below the root
	Content string `json:"content"`
	Existed bool   `json:"existed"`
	Before  string `json:"before,omitempty"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maxRecord bounds one line; a bundle's intent with its neighbours is far below.
const maxRecord = 1 << 20

// encodeRecord gives the line of a record: the checksum covers the exact bytes of its JSON.
func encodeRecord(r record) ([]byte, error) {
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

// decodeRecord reads one line without its line end.
func decodeRecord(line []byte) (record, error) {
	var sealed struct {
		CRC    string          `json:"crc32c"`
		Record json.RawMessage `json:"record"`
	}
	if err := strictJSON(line, &sealed); err != nil {
		return record{}, err
	}
	if want := fmt.Sprintf("%08x", crc32.Checksum(sealed.Record, castagnoli)); sealed.CRC != want {
		return record{}, fmt.Errorf("checksum is %q, should be %q", sealed.CRC, want)
	}
	var r record
	if err := strictJSON(sealed.Record, &r); err != nil {
		return record{}, err
	}
	switch {
	case !r.Kind.known():
		return record{}, fmt.Errorf("record kind %q is not known to this version", r.Kind)
	case r.Rollout == "":
		return record{}, errors.New("record names no rollout")
	case r.Kind == kindIntent && (r.How == nil || r.Tunable == ""):
		return record{}, errors.New("intent does not say what it writes")
	}
	return r, nil
}

// strictJSON decodes exactly one value with no unknown field and nothing after it.
func strictJSON(data []byte, into any) error {
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

// scanned is what a journal's bytes hold.
type scanned struct {
	records []record
	good    int64 // bytes up to the torn tail, if there is one
	torn    int64 // bytes of an unfinished last record
	badAt   int64 // byte offset of the first corrupt record; -1 when there is none
	bad     error
}

// scanJournal reads all records. A last line without line end was cut by a crash before anything could
// depend on it, and is dropped. Any other unreadable line is corruption: the good records around it
// still count, for restoring.
func scanJournal(data []byte) scanned {
	s := scanned{badAt: -1}
	var last uint64
	for off := 0; off < len(data); {
		end := bytes.IndexByte(data[off:], '\n')
		if end < 0 {
			s.torn = int64(len(data) - off)
			break
		}
		r, err := decodeRecord(data[off : off+end])
		if err == nil && last != 0 && r.Seq != last+1 {
			err = fmt.Errorf("sequence jumps from %d to %d", last, r.Seq)
			s.records = append(s.records, r) // readable, and a restore may need it
			last = r.Seq
		} else if err == nil {
			s.records = append(s.records, r)
			last = r.Seq
		}
		if err != nil && s.badAt < 0 {
			s.badAt, s.bad = int64(off), err
		}
		off += end + 1
		s.good = int64(off)
	}
	return s
}
