// Package effect compares treated readings with untreated ones.
//
// It owns the statistics alone: it is pure, and knows neither meters nor stages. It must never call a
// difference sure that chance explains, however often it is asked. Read [Comparer] first.
package effect
