package vector

import (
	"fmt"
	"math"

	"semantos/internal/tune"
)

// slackFloor covers float32 rounding in scores and in the exact dot product (width * 2^-24 spread
// over 32 lanes stays below it up to maxDim); it is small beside what int8 codes lose (about 0.007).
const slackFloor = 2e-5

// maxDim bounds a dimension: sums of codes must fit an int32 (see queryLimit).
const maxDim = 65536

// codeMax is the largest magnitude of a stored code.
const codeMax = 127

// queryLimit is the largest magnitude of a query's int16 code at which no sum of width products
// leaves int32.
func queryLimit(width int) int {
	return min(math.MaxInt16, math.MaxInt32/(codeMax*width))
}

// normalise writes v scaled to length one into dst (padded with zeros). It refuses what has no
// direction: NaN, Inf, all zeros.
func normalise(dst, v []float32) error {
	var sum float64
	for i, x := range v {
		f := float64(x)
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("element %d is %v: %w", i, x, tune.ErrOutOfRange)
		}
		sum += f * f
	}
	if sum == 0 {
		return fmt.Errorf("a zero vector has no direction: %w", tune.ErrOutOfRange)
	}
	norm := 1 / math.Sqrt(sum)
	for i, x := range v {
		dst[i] = float32(float64(x) * norm)
	}
	clear(dst[len(v):])
	return nil
}

// encode writes the int8 codes of the unit vector v and gives their step and an upper bound of the
// length of what they lose: by Cauchy and Schwarz no unit query's similarity is off by more.
func encode(dst []int8, v []float32) (scale, slack float32) {
	step := largest(v) / codeMax
	inv := 1 / step
	var lost float64
	for i, x := range v {
		c := math.RoundToEven(float64(x * inv))
		c = max(-codeMax, min(codeMax, c))
		dst[i] = int8(c)
		d := float64(x) - c*float64(step)
		lost += d * d
	}
	return step, float32(math.Sqrt(lost)) + slackFloor
}

// encodeQuery is encode with 16 bits: beside a row's own loss that of the query hardly counts.
func encodeQuery(dst []int16, v []float32) (scale, slack float32) {
	limit := float64(queryLimit(len(v)))
	step := largest(v) / float32(limit)
	var lost float64
	for i, x := range v {
		c := math.RoundToEven(float64(x) / float64(step))
		c = max(-limit, min(limit, c))
		dst[i] = int16(c)
		d := float64(x) - c*float64(step)
		lost += d * d
	}
	// A row's codes are no longer than 1 + its slack; 2 is above that.
	return step, 2 * float32(math.Sqrt(lost))
}

func largest(v []float32) float32 {
	var m float32
	for _, x := range v {
		m = max(m, x, -x)
	}
	return m
}
