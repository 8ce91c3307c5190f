// Package reasoner turns a snapshot into symptoms and symptoms into ranked recommendations.
//
// It owns compiling and evaluating rules, proposing values, ranking, and the votes behind an
// uncertainty. It is a pure function of snapshot, current values and evidence: the same state gives
// the same ids in the same order. It must never read or write the machine, propose a value outside a
// tunable's hard or safe range, or take missing data for health or for harm.
//
// Read [Reasoner.Diagnose] first, then one rule of kb/rules, then [Reasoner.Recommend].
package reasoner
