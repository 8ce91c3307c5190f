package guard

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
	"semantos/safety/journal"
)

// Witness sees who writes tunables beside the guard. It may see nothing, and says why then; nothing here
// waits for it, and no restore depends on it.
type Witness interface {
	// Start begins to watch. It may take as long as loading a program takes, and is called once.
	Start()
	// Hold is told of each tunable before it is written, and of those found held.
	Hold(t *tune.Tunable, target string)
	// Writes gives what was seen of a tunable's writes.
	Writes(t *tune.Tunable, target string) tune.Seen
}

// NotKnown begins every sentence that names nobody.
const NotKnown = "not known who: "

// noWitness is why nothing is known of what was changed before this guard watched.
const noWitness = "nobody watched then"

// question is what a yield asks of the witness, once everything is put back.
type question struct {
	t      *tune.Tunable
	target string
	found  tune.Value
	pair   *journal.Beside // where it was found zero: its counterpart, with the value found there
	taken  bool            // a younger rollout of ours has written it since
}

// ask keeps the question for answer.
func (g *engine) ask(r *Restored, en *journal.Entry, found, pairLive tune.Value, taken bool) {
	r.asked = &question{t: g.tunable(en.Tunable, en.How), target: en.Target, found: found, taken: taken}
	if en.Pair != nil && zero(found) && !taken {
		b := *en.Pair
		b.Value = pairLive
		r.asked.pair = &b
	}
}

// answer adds to each yield who made the change.
func (g *engine) answer(out []Restored) {
	for i := range out {
		if r := &out[i]; r.Outcome == Yielded && r.asked != nil {
			r.Detail += "; " + g.who(*r.asked)
		}
	}
}

// hold has the witness look at what is about to be written.
func (g *engine) hold(t *tune.Tunable, target string) {
	if g.witness != nil {
		g.witness.Hold(t, target)
	}
}

// beginWitness lets the witness begin, beside the guard's work, with all that is held.
func (g *engine) beginWitness(w Witness) {
	if w == nil {
		return
	}
	g.witness = w
	var held []*journal.Entry
	for _, ro := range g.state.Open() {
		held = append(held, ro.Entries...)
	}
	held = slices.DeleteFunc(held, func(en *journal.Entry) bool { return en.End != "" })
	tunables := make([]*tune.Tunable, len(held))
	targets := make([]string, len(held))
	for i, en := range held {
		tunables[i], targets[i] = g.tunable(en.Tunable, en.How), en.Target
	}
	go func() {
		// A fault of the watch ends the watch, not the guard beside it: it then knows of no writes.
		defer func() { _ = recover() }()
		w.Start()
		for i, t := range tunables {
			w.Hold(t, targets[i])
		}
		relock()
	}()
}

// relock gives back the memory that loading used: locked pages never go.
func relock() {
	if unix.Munlockall() == nil { // nothing where nothing was locked
		debug.FreeOSMemory()
		_ = lockMemory() // as possible as it was before
	}
}

// who says in one sentence who made a tunable what it was found to be, or why that is not known. It names
// somebody only when the last write seen is of the value found and nobody else wrote since our own.
func (g *engine) who(q question) (said string) {
	if g.witness == nil {
		return NotKnown + noWitness
	}
	defer func() {
		if fault := recover(); fault != nil {
			said = NotKnown + fmt.Sprintf("the watch failed (%v)", fault)
		}
	}()
	seen := g.witness.Writes(q.t, q.target)
	if seen.Since.IsZero() {
		return NotKnown + seen.Why
	}
	writes, ownSeen := since(seen.Writes, q.taken)
	beside := map[int]bool{} // of writes, those of the counterpart
	if q.pair != nil {
		writes, beside = withPair(writes, lastOwn(seen), g.witness.Writes(g.tunable(q.pair.Tunable, q.pair.How), q.pair.Target))
	}
	if slices.ContainsFunc(writes, func(w tune.Written) bool { return w.Lost > 0 }) {
		return NotKnown + "some writes came too fast to be kept"
	}
	switch {
	case len(writes) == 0 && !ownSeen:
		return NotKnown + "nobody watched before " + clock(seen.Since)
	case len(writes) == 0 && seen.Why != "":
		return NotKnown + "no write of it was seen (" + seen.Why + ")"
	case len(writes) == 0:
		return NotKnown + "no write of it was seen"
	}
	last := writes[len(writes)-1]
	found, name := q.found, ""
	if beside[len(writes)-1] {
		found, name = q.pair.Value, " of its counterpart "+q.pair.Tunable
	}
	switch {
	case severalWriters(writes):
		return NotKnown + "several wrote it: " + listed(writes)
	case last.Cut:
		return NotKnown + fmt.Sprintf("%s wrote what could not be read whole", writer(last))
	case !wrote(last.Value, found):
		return NotKnown + fmt.Sprintf("the last write seen is %q%s by %s, which is not what stands", last.Value, name, writer(last))
	case name != "":
		return fmt.Sprintf("%q%s was written by %s", last.Value, name, writer(last))
	}
	return "written by " + writer(last)
}

// tellWho answers for what is held and was found changed by the one who asks.
func (g *engine) tellWho(found []tune.Change) ([]string, error) {
	out := make([]string, len(found))
	for i, c := range found {
		t, own, err := g.cat.Lookup(c.Tunable)
		if err != nil {
			return nil, err
		}
		q := question{t: t, target: targetFor(t, own, c.Target), found: c.Current}
		if en := g.holder(c.Tunable, c.Target, &journal.Entry{}); en != nil {
			var r Restored
			pairLive, _ := g.pairLive(en) // unread it tells nothing more
			g.ask(&r, en, c.Current, pairLive, false)
			q = *r.asked
		}
		out[i] = g.who(q)
	}
	return out, nil
}

// since gives the others' writes behind our last one, and whether ours was seen. Of a value that a younger
// rollout took over, they lie before that one's.
func since(all []tune.Written, taken bool) (others []tune.Written, ownSeen bool) {
	end := len(all)
	for taken && end > 0 && all[end-1].Own {
		end--
	}
	from := end
	for from > 0 && !all[from-1].Own {
		from--
	}
	return slices.Clone(all[from:end]), from > 0
}

// lastOwn is the time of our last write; without one, when the watch began.
func lastOwn(seen tune.Seen) time.Time {
	for i := len(seen.Writes) - 1; i >= 0; i-- {
		if seen.Writes[i].Own {
			return seen.Writes[i].Time
		}
	}
	return seen.Since
}

// withPair adds the others' writes of the counterpart, which make this member zero, in the order of time.
func withPair(writes []tune.Written, after time.Time, pair tune.Seen) ([]tune.Written, map[int]bool) {
	type one struct {
		tune.Written
		beside bool
	}
	var all []one
	for _, w := range writes {
		all = append(all, one{w, false})
	}
	for _, w := range pair.Writes {
		if !w.Own && w.Time.After(after) && w.Lost == 0 {
			all = append(all, one{w, true})
		}
	}
	slices.SortStableFunc(all, func(a, b one) int { return a.Time.Compare(b.Time) })
	out, beside := make([]tune.Written, len(all)), map[int]bool{}
	for i, w := range all {
		out[i], beside[i] = w.Written, w.beside
	}
	return out, beside
}

func severalWriters(writes []tune.Written) bool {
	first := writes[0]
	return slices.ContainsFunc(writes, func(w tune.Written) bool { return w.PID != first.PID || w.Start != first.Start })
}

// wrote reports whether a text handed to the kernel makes what stands: the same words, or numbers spelled
// otherwise. Who gives fewer elements than there are leaves the rest as they were.
func wrote(text, found tune.Value) bool {
	given, stands := text.Fields(), found.Fields()
	if len(given) == 0 || len(given) > len(stands) {
		return text == found
	}
	for i, word := range given {
		if word != stands[i] && !sameNumber(word, stands[i]) {
			return false
		}
	}
	return true
}

// sameNumber reads the spellings the kernel takes: decimal, hexadecimal, octal.
func sameNumber(given, stands string) bool {
	n, err := strconv.ParseInt(strings.TrimPrefix(given, "+"), 0, 64)
	m, other := strconv.ParseInt(stands, 10, 64)
	return errors.Join(err, other) == nil && n == m && !strings.ContainsRune(given, '_')
}

// maxListed is how many writes a sentence lists.
const maxListed = 3

func listed(writes []tune.Written) string {
	more := ""
	if n := len(writes) - maxListed; n > 0 {
		writes, more = writes[n:], fmt.Sprintf(" and %d before", n)
	}
	out := make([]string, len(writes))
	for i, w := range writes {
		out[i] = fmt.Sprintf("%q by %s", w.Value, writer(w))
	}
	return strings.Join(out, ", ") + more
}

// writer spells who and when: sh (pid 4711, of cron, pid 88; uid 0; /usr/bin/dash) at 2026-11-27T06:25:01Z.
func writer(w tune.Written) string {
	if w.PID == 0 {
		return "a process outside this PID namespace at " + clock(w.Time)
	}
	name, rest := plain(w.Comm), []string{"pid " + strconv.Itoa(w.PID)}
	if name == "" {
		name = "a process that has ended"
	}
	if w.Parent > 0 {
		rest[0] += fmt.Sprintf(", of %s, pid %d", plain(w.ParentComm), w.Parent)
	}
	if w.UID >= 0 {
		rest = append(rest, "uid "+strconv.Itoa(w.UID))
	}
	if w.Exe != "" {
		rest = append(rest, plain(w.Exe))
	}
	return fmt.Sprintf("%s (%s) at %s", name, strings.Join(rest, "; "), clock(w.Time))
}

// plain quotes a name that could be taken for more than one: whoever writes chooses his own.
func plain(name string) string {
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-_./:@+", c) {
			return strconv.QuoteToASCII(name)
		}
	}
	return name
}

func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }
