// Package rollout is the staged trial of one recommendation.
//
// It owns the timetable ([NewPlan]), the pure state machine ([Step]), the judgement of each stage, and the
// runner that performs what Step asks for. It must never touch the machine itself (a [Writer] does), take
// missing data for a pass, or read a clock or chance inside Step. Read [Step] first.
package rollout
