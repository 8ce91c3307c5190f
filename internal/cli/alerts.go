package cli

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"semantos/console"
	"semantos/internal/tune"
	"semantos/safety/alert"
	"semantos/safety/audit"
	"semantos/safety/guard"
)

// alerter tells ALERT_WEBHOOK, where one is set, and counts for /metrics either way. It may be nil.
type alerter struct {
	sender *alert.Sender // nil without ALERT_WEBHOOK
	boot   string

	mu       sync.Mutex
	guard    *guard.Client
	rollouts map[[2]string]uint64 // by state and reason
	vetoes   map[string]uint64
	deaths   uint64
	last     guard.Audited // the newest the guard said
}

// alertTime is what the end of a command waits for the hook; what is not delivered then goes out with the
// next serve or command.
const alertTime = 3 * time.Second

// newAlerter starts delivering, also what an earlier process left.
func (a *app) newAlerter() *alerter {
	boot := a.onDisk().bootID
	al := &alerter{boot: boot, rollouts: map[[2]string]uint64{}, vetoes: map[string]uint64{}}
	if a.cfg.AlertWebhook == "" {
		return al
	}
	seed := uint64(a.now().UnixNano())
	al.sender = alert.New(alert.Config{URL: a.cfg.AlertWebhook, Secret: a.cfg.AlertSecret, Dir: a.cfg.StoreDir, Host: cmp.Or(a.hostName(), boot),
		Now: a.now, Rand: rand.New(rand.NewPCG(seed, uint64(os.Getpid()))), Say: a.say,
		GaveUp: func(lost alert.Alert, why string) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = al.client().Note(ctx, audit.Entry{Kind: audit.Alerted, Actor: "semantos", Rollout: lost.Rollout, Reason: string(lost.Kind),
				Detail: "alert " + lost.ID + " reached nobody: " + why}.Clip()) // a guard that is gone logs nothing
		}})
	a.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), alertTime)
		defer cancel()
		al.sender.Close(ctx)
		return nil
	})
	return al
}

// alertThrough has the guard given log for the alerts of this command from now on.
func (a *app) alertThrough(client *guard.Client) {
	if a.alerts == nil {
		a.alerts = a.newAlerter()
	}
	a.alerts.use(client)
}

// leaveAlert spools what a guard recovered, for the process that this one becomes: it delivers nothing itself.
func (a *app) leaveAlert(client *guard.Client) {
	if a.cfg.AlertWebhook == "" || len(recoveries(client.Notes())) == 0 {
		return
	}
	al := a.newAlerter()
	al.use(client)
	al.recovered(client.Notes())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	al.sender.Close(ctx)
}

// use takes the guard that logs from now on.
func (al *alerter) use(client *guard.Client) {
	al.mu.Lock()
	defer al.mu.Unlock()
	al.guard = client
}

func (al *alerter) client() *guard.Client {
	al.mu.Lock()
	defer al.mu.Unlock()
	return al.guard
}

func (al *alerter) post(a alert.Alert) {
	if al.sender == nil {
		return
	}
	a.BootID = cmp.Or(a.BootID, al.boot)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	st, err := al.client().Audit(ctx)
	al.mu.Lock()
	if err == nil {
		al.last = st
	}
	a.Audit = al.last.Head.String() // of a guard that died: what it said last
	al.mu.Unlock()
	al.sender.Post(a)
}

// ended counts a rollout that has ended, and tells of it where an operator should hear.
func (al *alerter) ended(r tune.Rollout, err error) {
	if al == nil || r.ID == "" || r.State == tune.Running {
		return
	}
	reason := r.Reason
	if r.State == tune.Vetoed {
		reason = vetoWord(r.Reason, err)
	}
	al.mu.Lock()
	al.rollouts[[2]string{string(r.State), reasonWord(reason)}]++
	if r.State == tune.Vetoed {
		al.vetoes[reason]++
	}
	al.mu.Unlock()
	if a, ok := alert.Of(r, reason); ok {
		al.post(a)
	}
}

// putBack tells of what an operator's rollback came to.
func (al *alerter) putBack(doc console.RollbackResult, actor string) {
	if al == nil {
		return
	}
	for _, r := range doc.Rollouts {
		if r.Actor = actor; r.State == tune.RolledBack {
			r.Ended = time.Time{} // now, not when the trial ended
			al.ended(r, nil)
		}
	}
	for _, m := range doc.Restored {
		a := alert.Alert{Rollout: m.Rollout, Actor: actor, Tunables: []audit.Change{{Tunable: m.Tunable, Target: m.Target, Old: m.Original, New: m.Current}}}
		switch guard.Outcome(m.State) {
		case guard.Yielded:
			a.Kind, a.Severity, a.Reason, a.Detail = alert.Yield, alert.Warning, tune.ReasonYielded, cmp.Or(m.Detail, "something else set it")+": left alone"
		case guard.Failed:
			a.Kind, a.Severity, a.Reason, a.Detail = alert.Fault, alert.Critical, "not_restored", "it could not be put back"
		default:
			continue
		}
		al.post(a)
	}
}

// fault tells of something that happened outside a rollout.
func (al *alerter) fault(kind alert.Kind, severity, reason, detail string) {
	if al == nil {
		return
	}
	if reason == "guard_died" {
		al.mu.Lock()
		al.deaths++
		al.mu.Unlock()
	}
	al.post(alert.Alert{Kind: kind, Severity: severity, Actor: "guard", Reason: reason, Detail: detail})
}

// recovered tells that a guard found what a dead one left, by what it noted of it.
func (al *alerter) recovered(notes []string) {
	if found := recoveries(notes); len(found) > 0 {
		al.fault(alert.Fault, alert.Warning, "recovered", strings.Join(found, "; "))
	}
}

func recoveries(notes []string) (found []string) {
	for _, n := range notes {
		if strings.Contains(n, "by a guard that died") || strings.Contains(n, "could not be put back") || strings.Contains(n, "recovery is not complete") {
			found = append(found, n)
		}
	}
	return found
}

// vetoWords is the closed set of reasons for a veto, each with what its sentence has.
func vetoWords() [][2]string {
	return [][2]string{{"uncertainty", "uncertainty "}, {"safe_range", "outside the safe range"}, {"conflict", "conflicts with"},
		{"oscillation", "back and forth"}, {"yielded", "is left alone"}, {"resting", " rests until "}, {"mixed", "in one trial"}, {"window", "maintenance window"}, {"budget", "exposure budget"},
		{"limits", "LIMITS"}, {"frozen", "frozen"}}
}

// vetoWord says in one word why a rollout was not admitted.
func vetoWord(reason string, err error) string {
	for _, c := range []struct {
		err  error
		word string
	}{{tune.ErrDenied, "protected"}, {tune.ErrConflict, "busy"}, {tune.ErrOutOfRange, "limits"}, {tune.ErrUnknown, "unknown"}} {
		if errors.Is(err, c.err) {
			return c.word
		}
	}
	for _, w := range vetoWords() {
		if strings.Contains(reason, w[1]) {
			return w[0]
		}
	}
	return "other"
}

// reasonWord keeps a label within its closed set.
func reasonWord(reason string) string {
	known := []string{tune.ReasonBetter, tune.ReasonNotWorse, tune.ReasonUnmeasured, tune.ReasonNoEffect, tune.ReasonWorse, tune.ReasonLimit,
		tune.ReasonInconclusive, tune.ReasonOperator, tune.ReasonInterrupted, tune.ReasonYielded, tune.ReasonFault, string(tune.Held),
		"protected", "busy", "unknown", "limits"}
	for _, w := range vetoWords() {
		known = append(known, w[0])
	}
	if slices.Contains(known, reason) {
		return reason
	}
	return "other"
}

// counts is what /metrics shows of all this. The guard is asked for a moment only; else what it said last
// stands.
func (al *alerter) counts() console.SafetyCounts {
	if al == nil {
		return console.SafetyCounts{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	st, err := al.client().Audit(ctx)
	al.mu.Lock()
	defer al.mu.Unlock()
	if err == nil {
		al.last = st
	}
	out := console.SafetyCounts{GuardDeaths: al.deaths, AuditRecords: al.last.Records, AuditErrors: al.last.Errors, AuditLost: al.last.Lost,
		Writes: map[string]uint64{}, Restores: map[string]uint64{}, Rollouts: map[[2]string]uint64{}, Vetoes: map[string]uint64{}}
	for k, n := range al.rollouts {
		out.Rollouts[k] = n
	}
	for k, n := range al.vetoes {
		out.Vetoes[k] = n
	}
	d := al.last.Deeds
	for verb, kind := range map[string]audit.Kind{"apply": audit.Wrote, "refuse": audit.Refusal, "commit": audit.Commit, "persist": audit.Persist} {
		out.Writes[verb] = d[kind]
	}
	for outcome, kind := range map[string]audit.Kind{"reverted": audit.Reverted, "restored": audit.Restored, "yielded": audit.Yielded,
		"gone": audit.Gone, "failed": audit.Failed} {
		out.Restores[outcome] = d[kind]
	}
	out.Yields = d[audit.Yielded]
	if al.sender != nil {
		n := al.sender.Counts()
		out.Alerts = map[string]uint64{"delivered": n.Delivered, "failed": n.Failed, "dropped": n.Dropped, "folded": n.Folded}
		out.AlertRetries, out.AlertsWaiting = n.Retried, n.Waiting
	}
	return out
}
