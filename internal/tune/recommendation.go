package tune

import (
	"crypto/sha256"
	"encoding/hex"
	"sort"
	"strings"
	"time"
)

// Change is one tunable to write on one target. Tunable is the instance's usual spelling
// (block/vda/queue/read_ahead_kb); Target names the netns, device, cgroup, process or socket.
type Change struct {
	Tunable     string      `json:"tunable"`
	Scope       Scope       `json:"scope"`
	Target      string      `json:"target"`
	Current     Value       `json:"current"`
	Proposed    Value       `json:"proposed"`
	TakesEffect TakesEffect `json:"takes_effect"`
	Why         string      `json:"why,omitempty"`
	Risk        Risk        `json:"risk,omitempty"`
}

// Recommendation is a bundle of changes that belong together.
type Recommendation struct {
	ID             string     `json:"id"`
	Changes        []Change   `json:"changes"`
	Rationale      string     `json:"rationale"`
	ExpectedImpact Impact     `json:"expected_impact"`
	Uncertainty    float64    `json:"uncertainty"`
	Admissible     bool       `json:"admissible"`
	Veto           string     `json:"veto,omitempty"` // why not admissible
	Risk           Risk       `json:"risk"`
	Score          float64    `json:"score"` // rank; larger first
	Provenance     Provenance `json:"provenance"`
	Offered        time.Time  `json:"offered,omitzero"` // when, as vetoed, it became the day's candidate for --yes
}

// Impact is what is expected: the signal, its direction, and a sentence.
type Impact struct {
	Signal    string `json:"signal"`
	Direction string `json:"direction"` // "lower" or "higher"
	Summary   string `json:"summary"`
}

// Provenance says where a recommendation comes from.
type Provenance struct {
	Symptom  string  `json:"symptom"`
	Entity   string  `json:"entity,omitempty"`
	Rule     string  `json:"rule"`   // file:line of the rule
	Source   string  `json:"source"` // document behind it
	Voters   []Voter `json:"voters"`
	Measure  Measure `json:"measure"`
	Operator bool    `json:"operator,omitempty"` // given by --set
}

// Voter is one independent opinion on a recommendation.
type Voter struct {
	Name   string `json:"name"` // rules, graph, traces, llm
	Agrees bool   `json:"agrees"`
	Why    string `json:"why"`
}

// RecommendationID hashes tunable, scope, target and proposed value of every change, whatever their
// order, so that the same advice has the same id tomorrow: 12 hexadecimal digits.
func RecommendationID(changes []Change) string {
	lines := make([]string, len(changes))
	for i, c := range changes {
		lines[i] = strings.Join([]string{c.Tunable, string(c.Scope), c.Target, string(c.Proposed)}, "\x00")
	}
	sort.Strings(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "\x01")))
	return hex.EncodeToString(sum[:6])
}

// Uncertainty combines agreement of independent voters with the knowledge's own confidence in [0,1]:
// u = 0.7 (1 - (agreeing+1)/(voters+2)) + 0.3 (1 - confidence).
func Uncertainty(voters []Voter, confidence float64) float64 {
	agreeing := 0
	for _, v := range voters {
		if v.Agrees {
			agreeing++
		}
	}
	agreement := float64(agreeing+1) / float64(len(voters)+2)
	return 0.7*(1-agreement) + 0.3*(1-min(1, max(0, confidence)))
}
