package console

import (
	"strings"
	"testing"
)

func TestSafetyMetrics(t *testing.T) {
	t.Parallel()
	tcp, _, _ := serve(t, newConsole(t, newRoom()))
	page := fetch(t, tcp+"/metrics")
	for _, want := range []string{
		`semantos_safety_rollouts_total{reason="worse",state="rolled_back"} 2`, `semantos_safety_rollouts_total{reason="better",state="committed"} 1`,
		`semantos_safety_vetoes_total{reason="uncertainty"} 3`, `semantos_safety_writes_total{verb="apply"} 9`,
		`semantos_safety_restores_total{outcome="restored"} 4`, `semantos_safety_yields_total 1`, `semantos_safety_alerts_total{outcome="delivered"} 5`,
		`semantos_safety_alert_retries_total 6`, `semantos_safety_alerts_waiting 7`, `semantos_safety_audit_records_total 80`,
		`semantos_safety_audit_errors_total 1`, `semantos_safety_audit_lost_records_total 2`, `semantos_safety_guard_deaths_total 1`,
	} {
		if !strings.Contains(page, want+"\n") {
			t.Errorf("the page lacks %s", want)
		}
	}
}
