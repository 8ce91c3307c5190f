package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"semantos/ebpf"
	"semantos/internal/privilege"
	"semantos/internal/tune"
	"semantos/safety/guard"
)

// finding is one thing doctor looked at.
type finding struct {
	Area   string `json:"area"`
	Status string `json:"status"` // ok, limited, bad
	Text   string `json:"text"`
	Hint   string `json:"hint,omitempty"`
}

// probed is one tunable with what can be done with it here.
type probed struct {
	Name       string          `json:"name"`
	Target     string          `json:"target,omitempty"`
	Capability tune.Capability `json:"capability"`
}

// sourced is one source of signals with whether it delivers here.
type sourced struct {
	Collector string `json:"collector"`
	Success   bool   `json:"success"`
	Reason    string `json:"reason,omitempty"`
}

// doctorDocument is what doctor --json prints.
type doctorDocument struct {
	Findings []finding          `json:"findings"`
	Sources  []sourced          `json:"sources"`
	Probes   []ebpf.ProbeStatus `json:"probes"`
	Tunables []probed           `json:"tunables"`
}

func (a *app) doctorCommand() *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "say what works on this host, what does not, and why",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			doc, err := a.examine(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(doc, func() { showDoctor(a.stdout, doc, verbose) })
		},
	}
	cmd.Flags().BoolVar(&verbose, "verbose", false, "list every source and tunable, and the verifier's messages, not only counts")
	return cmd
}

func (a *app) examine(ctx context.Context) (doctorDocument, error) {
	r, err := a.openRooms()
	if err != nil {
		return doctorDocument{}, err
	}
	doc := doctorDocument{Findings: []finding{}, Sources: []sourced{}, Tunables: []probed{}}
	sampler, err := a.newSampler(ctx, r, time.Minute)
	if err != nil {
		return doc, err
	}
	if err := sampler.Tick(ctx); err != nil {
		return doc, err
	}
	for _, s := range sampler.Stats() {
		doc.Sources = append(doc.Sources, sourced{Collector: s.Collector, Success: s.Success && s.Reason == "", Reason: s.Reason})
	}
	doc.Tunables = append(doc.Tunables, r.probeAll()...)
	doc.Probes = r.probes.status(ctx)
	doc.Findings = append(doc.Findings, a.kernelFindings(r)...)
	doc.Findings = append(doc.Findings, a.privilegeFindings(ctx)...)
	doc.Findings = append(doc.Findings, probeFinding(doc.Probes))
	doc.Findings = append(doc.Findings, a.storageFindings(ctx)...)
	doc.Findings = append(doc.Findings, a.limitFindings(ctx)...)
	doc.Findings = append(doc.Findings, a.witnessFindings(r.host)...)
	doc.Findings = append(doc.Findings, tunerFindings(r.host.Path("/proc"))...)
	return doc, nil
}

// probeAll tries every tunable on the targets of this host it can name by itself.
func (r *rooms) probeAll() []probed {
	var out []probed
	for _, t := range r.cat.All() {
		if t.Protected {
			continue
		}
		instances := r.instances(t)
		for _, i := range instances {
			out = append(out, probed{Name: i.Name, Target: i.Target, Capability: r.host.Probe(t, i.Target)})
		}
		if len(instances) == 0 {
			out = append(out, probed{Name: t.Name, Capability: r.probeSome(t)})
		}
	}
	return out
}

// probeSome tries the first target of a tunable that has many (a cgroup, a socket) or none.
func (r *rooms) probeSome(t *tune.Tunable) tune.Capability {
	targets, err := r.host.Targets(t)
	switch {
	case err != nil:
		return tune.Capability{Reason: err.Error()}
	case len(targets) == 0:
		return tune.Capability{Reason: "no " + string(t.Scope) + " of this kind is present"}
	}
	return r.host.Probe(t, targets[0])
}

func (a *app) kernelFindings(r *rooms) []finding {
	text := r.facts.Text
	words := []string{"Linux " + text["kernel"], text["arch"]}
	for _, key := range []string{"distro", "virt"} {
		if text[key] != "" {
			words = append(words, text[key])
		}
	}
	words = append(words, fmt.Sprintf("%s CPUs", number(r.facts.Num["cpus"])), byteSize(r.facts.Num["mem_total_bytes"]))
	return []finding{
		{Area: "kernel", Status: "ok", Text: strings.Join(words, ", ")},
		{Area: "catalogue", Status: "ok", Text: fmt.Sprintf("%d tunables, %d rules", len(r.cat.All()), len(r.rules))},
	}
}

func (a *app) privilegeFindings(ctx context.Context) []finding {
	var out []finding
	if a.uid == 0 {
		out = append(out, finding{Area: "privileges", Status: "ok", Text: "running as root"})
	} else {
		out = append(out, finding{Area: "privileges", Status: "limited",
			Text: fmt.Sprintf("running as uid %d: recommend works from what is readable, apply does not", a.uid),
			Hint: "run semantos as root to apply changes and to see the sockets of other users"})
	}
	out = append(out, a.serveRights(ctx))
	return append(out, guardFindings(guard.Weaknesses())...)
}

// serveRights says what the running serve may do, as the kernel tells, or what one started here would keep.
func (a *app) serveRights(ctx context.Context) finding {
	f := finding{Area: "serve's rights", Status: "ok"}
	if pid := a.servePid(ctx); pid > 0 {
		s, err := privilege.Of(strconv.Itoa(pid))
		switch {
		case err != nil:
			f.Status, f.Text = "limited", err.Error()
		case s.UID == 0:
			f.Status, f.Text = "limited", fmt.Sprintf("pid %d keeps root's; its first lines say why", pid)
			f.Hint = "unset RUN_AS, and keep DATA_DIR where another user may walk to it"
		default:
			f.Text = fmt.Sprintf("pid %d has uid %d, %s (to load probes), no_new_privs %s, system calls filtered %s; the guard writes, "+
				"and looks at what it may not see", pid, s.UID, keptText(s), yesNo(s.NoNewPrivs), yesNo(s.Filtered))
		}
		return f
	}
	u, why, err := a.whyStay()
	switch {
	case err != nil:
		f.Status, f.Text, f.Hint = "bad", err.Error(), tune.Hint(err)
	case why != "" && a.uid == 0:
		f.Status, f.Text = "limited", "serve would keep those it is started with: "+why
	case why != "":
		f.Text = "serve would have uid " + strconv.Itoa(a.uid) + "'s own"
	default:
		f.Text = "serve would become " + u.String() + " and keep what loads probes (CAP_BPF, CAP_PERFMON); the guard keeps root's"
	}
	return f
}

// guardFindings says what this host keeps a guard from doing to outlive what it guards against.
func guardFindings(weak []string) []finding {
	if len(weak) == 0 {
		return []finding{{Area: "guard", Status: "ok", Text: "it can lock its memory, and the OOM killer spares it"}}
	}
	var out []finding
	for _, w := range weak {
		out = append(out, finding{Area: "guard", Status: "limited", Text: w,
			Hint: "run as root with CAP_IPC_LOCK and CAP_SYS_RESOURCE, or raise RLIMIT_MEMLOCK"})
	}
	return out
}

// storageFindings looks at history, journal and leftovers without creating anything.
func (a *app) storageFindings(ctx context.Context) []finding {
	var out []finding
	add := func(area, status, text, hint string) {
		out = append(out, finding{Area: area, Status: status, Text: text, Hint: hint})
	}
	switch info, err := os.Stat(a.cfg.DataDir); {
	case os.IsNotExist(err):
		add("store", "ok", a.cfg.DataDir+" does not exist yet; the first recommend creates it", "")
	case err != nil:
		add("store", "bad", err.Error(), "name another directory with --data-dir")
	case !info.IsDir():
		add("store", "bad", a.cfg.DataDir+" is not a directory", "name another directory with --data-dir")
	default:
		if store, err := a.openStore(ctx); err != nil {
			add("store", "bad", err.Error(), tune.Hint(err))
		} else if rollouts, err := store.Rollouts(ctx, 0); err != nil {
			add("store", "bad", err.Error(), tune.Hint(err))
		} else {
			add("store", "ok", fmt.Sprintf("%s, %d rollouts", filepath.Clean(a.cfg.DataDir), len(rollouts)), "")
			if reason := awayReason(store); reason != "" {
				add("neo4j", "limited", reason+"; the last known graph answers, and what is written waits in order",
					"start the server, or correct NEO4J_URI, NEO4J_USER and NEO4J_PASS")
			} else if a.cfg.Neo4jURI != "" {
				add("neo4j", "ok", "connected", "")
			}
		}
	}
	managed, err := a.inspect()
	if err != nil {
		add("journal", "bad", err.Error(), tune.Hint(err))
		return out
	}
	if f := a.frozen(); f != nil {
		add("freeze", "limited", f.Error(), "semantos freeze --off lets changes be made again")
	}
	open := len(leftovers(managed))
	add("journal", "ok", fmt.Sprintf("%d managed tunables", len(managed)), "")
	if open > 0 {
		add("leftovers", "limited", fmt.Sprintf("%d tunables were left by a killed semantos", open),
			"semantos rollback --all as root restores what was not committed")
	}
	if a.serving(ctx) != nil {
		add("serve", "ok", "running, answers on "+a.cfg.Socket(), "")
	}
	return out
}

func showDoctor(w io.Writer, doc doctorDocument, verbose bool) {
	rows := make([][]string, 0, len(doc.Findings))
	for _, f := range doc.Findings {
		text := oneLine(f.Text)
		if f.Hint != "" {
			text += ". Try: " + f.Hint
		}
		rows = append(rows, []string{f.Area, f.Status, text})
	}
	table(w, []string{"AREA", "STATUS", "FOUND"}, rows)

	rows = rows[:0]
	delivering := 0
	for _, s := range doc.Sources {
		if s.Success {
			delivering++
		}
		if !s.Success || verbose {
			rows = append(rows, []string{s.Collector, yesNo(s.Success), oneLine(s.Reason)})
		}
	}
	fmt.Fprintf(w, "\nSources of signals: %d of %d deliver.\n", delivering, len(doc.Sources))
	if len(rows) > 0 {
		table(w, []string{"SOURCE", "DELIVERS", "WHY NOT"}, rows)
	}
	showProbes(w, doc.Probes, verbose)
	showProbed(w, doc.Tunables, verbose)
}

func showProbed(w io.Writer, all []probed, verbose bool) {
	writable, readable := 0, 0
	reasons := map[string]int{}
	var rows [][]string
	for _, p := range all {
		switch {
		case p.Capability.Writable:
			writable++
		case p.Capability.Readable:
			readable++
		}
		if !p.Capability.Writable {
			reasons[shortReason(p.Capability.Reason)]++
		}
		if verbose {
			rows = append(rows, []string{p.Name, capabilityText(p.Capability, false)})
		}
	}
	fmt.Fprintf(w, "\nTunables: %d writable, %d readable only, %d neither.\n", writable, readable, len(all)-writable-readable)
	if verbose {
		table(w, []string{"TUNABLE", "CAPABILITY"}, rows)
		return
	}
	for _, reason := range byCount(reasons) {
		paragraph(w, 2, fmt.Sprintf("%3d  ", reasons[reason]), oneLine(reason))
	}
	fmt.Fprintln(w, "semantos doctor --verbose lists each.")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
