package rollout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	"semantos/internal/tune"
)

// savedVersion changes with the meaning of a saved field. Another version is not read: a trial that went
// on from half-understood numbers would be judged by them.
const savedVersion = 1

// Saved is a trial with what it needs to go on in another process.
type Saved struct {
	Rollout   tune.Rollout
	Trial     Trial
	At        time.Time // when it was saved
	StageTime time.Duration
	Persist   bool          // what [Request].Persist was
	Exposed   time.Duration // how long anything of it stood on the machine
}

// savedForm is Saved as JSON.
type savedForm struct {
	Version   int           `json:"version"`
	At        time.Time     `json:"at"`
	Rollout   tune.Rollout  `json:"rollout"`
	StageTime time.Duration `json:"stage_time_ns"`
	Persist   bool          `json:"persist"`
	Exposed   time.Duration `json:"exposed_ns"`
	Trial     trialForm     `json:"trial"`
}

// trialForm is a [Trial] as JSON; TestSavedTrialIsWhole fails for a field that is missing here.
type trialForm struct {
	Plan     Plan          `json:"plan"`
	Policy   Policy        `json:"policy"`
	State    tune.State    `json:"state"`
	Reason   string        `json:"reason"`
	Detail   string        `json:"detail"`
	Effect   *tune.Effect  `json:"effect"`
	Stages   []tune.Stage  `json:"stages"`
	Phase    phase         `json:"phase"`
	Next     int           `json:"next"`
	At       int           `json:"at"`
	Current  slotForm      `json:"current"`
	Began    time.Time     `json:"began"`
	LookAt   time.Time     `json:"look_at"`
	HopeAt   time.Time     `json:"hope_at"`
	Readings []readingForm `json:"readings"`
	Misses   int           `json:"misses"`
	Blind    int           `json:"blind"`
	Confirm  bool          `json:"confirm"`
	Exposed  bool          `json:"exposed"`
	Dosed    float64       `json:"dosed"`
	GoOn     bool          `json:"go_on"`
	Standing []int         `json:"standing,omitempty"`
	Lost     []int         `json:"lost,omitempty"`
}

type slotForm struct {
	Treated  bool      `json:"treated"`
	Baseline bool      `json:"baseline"`
	Block    blockForm `json:"block"`
	Units    []int     `json:"units,omitempty"`
	Again    bool      `json:"again,omitempty"`
}

type blockForm struct {
	ID     int  `json:"id"`
	Size   int  `json:"size"`
	Forced int  `json:"forced"`
	Last   bool `json:"last"`
}

type readingForm struct {
	Stage   int         `json:"stage"`
	Treated bool        `json:"treated"`
	Unit    int         `json:"unit,omitempty"`
	Block   blockForm   `json:"block"`
	Sample  *sampleForm `json:"sample"` // null: the slot gave no data
}

type sampleForm struct {
	Start      time.Time `json:"start"`
	End        time.Time `json:"end"`
	MedianMS   real      `json:"median_ms"`
	P95MS      real      `json:"p95_ms"`
	Throughput real      `json:"throughput"`
	ErrorRate  real      `json:"error_rate"`
	Requests   int64     `json:"requests,omitempty"`
	Value      *real     `json:"value"`
	Lost       *real     `json:"lost"`
}

// real is a number that a broken meter may have given: JSON has no word for NaN and the infinities.
type real float64

// MarshalJSON writes what is not finite as a word.
func (r real) MarshalJSON() ([]byte, error) {
	if x := float64(r); math.IsNaN(x) || math.IsInf(x, 0) {
		return json.Marshal(strconv.FormatFloat(x, 'g', -1, 64))
	}
	return json.Marshal(float64(r))
}

// UnmarshalJSON reads a number or one of the three words.
func (r *real) UnmarshalJSON(data []byte) error {
	var word string
	if json.Unmarshal(data, &word) != nil {
		return json.Unmarshal(data, (*float64)(r))
	}
	switch word {
	case "NaN", "+Inf", "-Inf":
		x, err := strconv.ParseFloat(word, 64)
		*r = real(x)
		return err
	}
	return fmt.Errorf("number %.20q", word)
}

// Encode writes a saved trial.
func (s Saved) Encode() ([]byte, error) {
	data, err := json.Marshal(savedForm{Version: savedVersion, At: s.At, Rollout: s.Rollout, StageTime: s.StageTime,
		Persist: s.Persist, Exposed: s.Exposed, Trial: formOf(s.Trial)})
	if err != nil {
		return nil, fmt.Errorf("save rollout %s: %w", s.Rollout.ID, err)
	}
	return data, nil
}

// DecodeSaved reads what Encode wrote. Anything else, an unknown field or a number that cannot be, is an
// error wrapping tune.ErrCorrupt: such a trial is ended, never guessed at.
func DecodeSaved(data []byte) (Saved, error) {
	bad := func(err error) (Saved, error) {
		return Saved{}, fmt.Errorf("read saved rollout: %w: %w", tune.ErrCorrupt, err)
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return bad(err)
	}
	if head.Version != savedVersion {
		return bad(fmt.Errorf("version %d, this build reads %d", head.Version, savedVersion))
	}
	var f savedForm
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return bad(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return bad(errors.New("something follows the document"))
	}
	s := Saved{Rollout: f.Rollout, Trial: f.Trial.trial(), At: f.At, StageTime: f.StageTime, Persist: f.Persist,
		Exposed: f.Exposed}
	if err := s.check(); err != nil {
		return bad(err)
	}
	return s, nil
}

// maxBlock slots are more than any plan puts into one block.
const maxBlock = 1000

// check refuses what Step could not go on from.
func (s Saved) check() error {
	t := s.Trial
	switch {
	case s.Rollout.ID == "" || len(s.Rollout.Recommendation.Changes) == 0:
		return errors.New("it names no rollout")
	case s.Exposed < 0 || s.At.IsZero() || s.StageTime <= 0 || t.Plan.StageTime <= 0 || t.Plan.Sample <= 0 || t.Plan.Settle < 0:
		return errors.New("it has no times")
	case t.phase < phaseReady || t.phase > phaseDone:
		return fmt.Errorf("phase %d", t.phase)
	case t.next < 0 || t.at < 0 || t.misses < 0 || t.blind < 0:
		return errors.New("a count is negative")
	case len(t.Stages) > len(t.Plan.Stages) || t.phase != phaseDone && (t.phase == phaseReady) != (len(t.Stages) == 0):
		return fmt.Errorf("%d of %d stages", len(t.Stages), len(t.Plan.Stages))
	case len(t.Plan.Confirm) == 0:
		return errors.New("the plan has no pairs")
	case t.phase == phaseHeld && t.whole():
		return errors.New("held with no stage left")
	}
	if err := t.checkUnits(); err != nil {
		return err
	}
	for _, st := range t.Plan.Stages {
		if len(st.Slots) == 0 || len(st.Changes) == 0 {
			return errors.New("a stage has no slots or changes")
		}
		if i := slices.IndexFunc(st.Blocks, func(size int) bool { return size < 1 || size > maxBlock }); i >= 0 {
			return fmt.Errorf("a stage has a block of %d slots", st.Blocks[i])
		}
	}
	blocks := []block{t.current.block}
	for _, r := range t.readings {
		if r.stage < 0 || r.stage >= len(t.Stages) {
			return fmt.Errorf("a reading of stage %d of %d", r.stage, len(t.Stages))
		}
		blocks = append(blocks, r.block)
	}
	for _, b := range blocks {
		if b.size < 0 || b.size > maxBlock || b.forced < 0 {
			return fmt.Errorf("a slot in a block of %d slots", b.size)
		}
	}
	return nil
}

func formOf(t Trial) trialForm {
	f := trialForm{Plan: t.Plan, Policy: t.Policy, State: t.State, Reason: t.Reason, Detail: t.Detail, Effect: t.Effect,
		Stages: t.Stages, Phase: t.phase, Next: t.next, At: t.at,
		Current: slotForm{t.current.treated, t.current.baseline, formOfBlock(t.current.block), t.current.units, t.current.again},
		Began:   t.began, LookAt: t.lookAt, HopeAt: t.hopeAt,
		Readings: make([]readingForm, len(t.readings)), Misses: t.misses, Blind: t.blind, Confirm: t.confirm,
		Exposed: t.exposed, Dosed: t.dosed, GoOn: t.goOn, Standing: t.standing, Lost: t.lost}
	for i, r := range t.readings {
		f.Readings[i] = readingForm{Stage: r.stage, Treated: r.treated, Unit: r.unit, Block: formOfBlock(r.block)}
		if v := r.sample; v != nil {
			f.Readings[i].Sample = &sampleForm{
				Start: v.Start, End: v.End, MedianMS: real(v.MedianMS), P95MS: real(v.P95MS), Throughput: real(v.Throughput),
				ErrorRate: real(v.ErrorRate), Requests: v.Requests, Value: (*real)(v.Value), Lost: (*real)(v.Lost)}
		}
	}
	return f
}

func formOfBlock(b block) blockForm { return blockForm{b.id, b.size, b.forced, b.last} }

func (b blockForm) block() block { return block{b.ID, b.Size, b.Forced, b.Last} }

func (f trialForm) trial() Trial {
	t := Trial{Plan: f.Plan, Policy: f.Policy, State: f.State, Reason: f.Reason, Detail: f.Detail, Effect: f.Effect,
		Stages: f.Stages, phase: f.Phase, next: f.Next, at: f.At,
		current: slot{f.Current.Treated, f.Current.Baseline, f.Current.Block.block(), f.Current.Units, f.Current.Again},
		began:   f.Began, lookAt: f.LookAt, hopeAt: f.HopeAt,
		misses: f.Misses, blind: f.Blind, confirm: f.Confirm, exposed: f.Exposed, dosed: f.Dosed, goOn: f.GoOn, standing: f.Standing, lost: f.Lost}
	for _, r := range f.Readings {
		back := reading{stage: r.Stage, treated: r.Treated, unit: r.Unit, block: r.Block.block()}
		if v := r.Sample; v != nil {
			back.sample = &tune.MeterSample{
				Start: v.Start, End: v.End, MedianMS: float64(v.MedianMS), P95MS: float64(v.P95MS), Throughput: float64(v.Throughput),
				ErrorRate: float64(v.ErrorRate), Requests: v.Requests, Value: (*float64)(v.Value), Lost: (*float64)(v.Lost)}
		}
		t.readings = append(t.readings, back)
	}
	return t
}
