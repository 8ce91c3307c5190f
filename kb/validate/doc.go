// Package validate is the door of the stores: what one write may hold, checked in one place so that
// every store refuses the same things with the same words.
//
// It owns [Batch], the unit of writing (all of it or nothing), and the checks on it. It must never open
// a store or know one; what it needs to know about stored data it asks through [Known]. Read [Batch]
// first, then [Batch.Check].
package validate
