package retrieve

// respell gives the known word nearest to a term nobody wrote: one slip for five letters, two for
// eight, none for shorter ones; the first letter is taken as right. Of
// equally near ones the first in the alphabet; "" when none is near.
func respell(term string, known []string) string {
	limit := 0
	switch n := len(term); {
	case n >= 8:
		limit = 2
	case n >= 5:
		limit = 1
	}
	best, out := limit+1, ""
	for _, w := range known {
		if limit == 0 || w[0] != term[0] || abs(len(w)-len(term)) >= best {
			continue
		}
		if d := slips(term, w); d < best {
			best, out = d, w
		}
	}
	return out
}

// slips is the least number of letters to add, drop, replace or swap with their neighbour.
func slips(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(row[j-1]+1, last[j]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}
