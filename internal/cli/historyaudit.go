package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"semantos/internal/tune"
	"semantos/safety/audit"
	"semantos/safety/guard"
)

// historyFlags are history's own flags as typed.
type historyFlags struct {
	limit   int
	audit   bool
	rollout string
	verify  bool
	head    string
}

func (f historyFlags) check() error {
	switch {
	case f.limit < 1:
		return usage("read --limit", fmt.Sprint(f.limit), "give a number from 1", "it is too small")
	case f.audit && f.verify:
		return usage("read history", "", "give --audit to list the log, or --verify to check it", "--audit and --verify exclude each other")
	case f.rollout != "" && !f.audit:
		return usage("read --rollout", f.rollout, "semantos history --audit --rollout ID; semantos explain ID shows one rollout", "it belongs to --audit")
	case f.head != "" && !f.verify:
		return usage("read --head", f.head, "semantos history --verify --head SEQ:HASH", "it belongs to --verify")
	}
	return nil
}

// verifyHistory checks the log of decisions and writes. It needs no serve and no guard, only rights to read.
func (a *app) verifyHistory(head string) error {
	var noted *audit.Head
	if head != "" {
		h, err := audit.ParseHead(head)
		if err != nil {
			return err
		}
		noted = &h
	}
	report, err := guard.VerifyAudit(a.cfg.DataDir, a.runDir(), noted)
	if err != nil {
		return err
	}
	if err := a.print(report, func() { showReport(a.stdout, report) }); err != nil {
		return err
	}
	if !report.Verified {
		return statusError{exit: exitFailed}
	}
	return nil
}

const dayAndTime = "2006-01-02 15:04:05"

func showReport(w io.Writer, r audit.Report) {
	if r.Records > 0 {
		fmt.Fprintf(w, "%d records from %s on, the newest of %s.\nHead: %s\n", r.Records, r.First.Local().Format(dayAndTime),
			r.Last.Local().Format(dayAndTime), r.Head)
	}
	if r.Dropped > 0 {
		fmt.Fprintf(w, "%d older records were dropped by retention, as a checkpoint tells.\n", r.Dropped)
	}
	if r.Lost > 0 {
		fmt.Fprintf(w, "%d records could not be kept when they happened; gap records in the log say when and why.\n", r.Lost)
	}
	for _, n := range r.Notes {
		paragraph(w, 0, "Note: ", oneLine(n))
	}
	if r.Verified {
		fmt.Fprintln(w, "The log is whole: every record is as it was written, and none is missing.")
		return
	}
	p := r.Problems[0]
	fmt.Fprintf(w, "The log is NOT whole. First break: %s.\n", breakAt(p))
	for _, p := range r.Problems {
		paragraph(w, 2, "", breakAt(audit.Problem{File: filepath.Base(p.File), Line: p.Line, Seq: p.Seq})+": "+oneLine(p.What))
	}
	if r.More > 0 {
		fmt.Fprintf(w, "  and %d more.\n", r.More)
	}
	paragraph(w, 0, "", "If you emptied this DATA_DIR yourself: docs/safety.md says how to begin a new log.")
}

func breakAt(p audit.Problem) string {
	at := oneLine(p.File)
	if p.Line > 0 {
		at += fmt.Sprintf(", line %d", p.Line)
	}
	if p.Seq > 0 {
		at += fmt.Sprintf(", record %d", p.Seq)
	}
	return at
}

// auditDocument is what history --audit --json prints, newest first.
type auditDocument struct {
	Records []audit.Record `json:"records"`
}

// listAudit lists the newest records of the log, as they stand: --verify says whether they may be believed.
func (a *app) listAudit(f historyFlags) error {
	doc, older := auditDocument{Records: []audit.Record{}}, 0
	err := audit.Read(guard.AuditDir(a.cfg.DataDir), func(r audit.Record) bool {
		if f.rollout == "" || r.Rollout == f.rollout || r.Recommendation == f.rollout {
			doc.Records = append(doc.Records, r)
			if len(doc.Records) > f.limit {
				doc.Records = doc.Records[1:]
				older++
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	if len(doc.Records) == 0 && f.rollout != "" {
		return &tune.Error{Op: "list log of", Subject: f.rollout, Err: errors.Join(tune.ErrUnknown),
			Hint: "semantos history --audit lists what is logged, semantos history the ids"}
	}
	for i, j := 0, len(doc.Records)-1; i < j; i, j = i+1, j-1 {
		doc.Records[i], doc.Records[j] = doc.Records[j], doc.Records[i]
	}
	return a.print(doc, func() {
		showRecords(a.stdout, doc.Records)
		if older > 0 {
			fmt.Fprintf(a.stdout, "%d older: --limit %d shows them too.\n", older, older+len(doc.Records))
		}
	})
}

func showRecords(w io.Writer, recs []audit.Record) {
	if len(recs) == 0 {
		fmt.Fprintln(w, "Nothing is logged yet.")
		return
	}
	rows := make([][]string, len(recs))
	for i, r := range recs {
		rows[i] = []string{fmt.Sprint(r.Seq), r.Time.Local().Format("01-02 15:04:05"), oneLine(string(r.Kind)), oneLine(r.Actor),
			oneLine(cmp.Or(r.Rollout, "-")), oneLine(recordText(r))}
	}
	table(w, []string{"RECORD", "TIME", "KIND", "ACTOR", "ROLLOUT", "WHAT"}, rows)
}

// recordText says in one line what a record tells.
func recordText(r audit.Record) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if r.Tunable != "" {
		value := r.Old
		switch {
		case r.New != "" && r.ReadBack != "" && r.New != r.ReadBack:
			add("%s %s -> %s, reads %s", r.Tunable, value, r.New, r.ReadBack)
		case r.Kind == audit.Yielded || r.Kind == audit.Failed:
			add("%s stands at %s", r.Tunable, value)
		default:
			add("%s %s -> %s", r.Tunable, value, cmp.Or(r.ReadBack, r.New))
		}
	}
	for _, c := range r.Changes {
		add("%s %s -> %s", c.Tunable, c.Old, c.New)
	}
	if r.Reason != "" {
		add("%s", r.Reason)
	}
	if n := r.Numbers; n != nil {
		if n.U != nil && n.Tau != nil {
			add("u %.2f, tau %.2f", *n.U, *n.Tau)
		}
		if n.Metric != "" && n.Ratio != nil {
			add("%s %s", n.Metric, interval(n))
		}
	}
	if r.Detail != "" {
		add("%s", r.Detail)
	}
	parts = append(parts, r.Files...)
	return strings.Join(parts, "; ")
}

func interval(n *audit.Numbers) string {
	bound := func(x *float64) string {
		if x == nil {
			return "?"
		}
		return fmt.Sprintf("%.3g", *x)
	}
	return fmt.Sprintf("%s [%s, %s]", bound(n.Ratio), bound(n.Low), bound(n.High))
}
