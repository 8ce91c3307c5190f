// Package alert tells a webhook what an operator should hear of: vetoes, rollbacks, yields and faults.
//
// It owns the alert's form, its signature, a bounded spool that outlives the process, retries, and the
// folding of storms. It must never hold up a rollout, follow a redirect, or believe what the hook answers.
// Read [Alert] first, then [Sender].
package alert
