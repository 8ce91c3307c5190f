package main

import (
	"bytes"
	"fmt"
	"math"
)

// plot draws errors and power against the noise: whole lines with an autocorrelation of 0.5, broken ones
// without.
func plot(points []point) []byte {
	var b bytes.Buffer
	fmt.Fprint(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="920" height="420" viewBox="0 0 920 420" font-family="sans-serif" font-size="12">`+"\n")
	fmt.Fprint(&b, `<rect width="920" height="420" fill="white"/>`+"\n")
	panel(&b, 60, "errors: lower is better", 0.10, 0.05, false, points)
	panel(&b, 520, "power: higher is better", 1, 0.9, true, points)
	fmt.Fprint(&b, `<text x="60" y="412" fill="#555">whole lines: autocorrelation 0.5; broken lines: none</text>`+"\n</svg>\n")
	return b.Bytes()
}

const panelWidth, panelHeight, panelTop = 340.0, 240.0, 40.0

func panel(b *bytes.Buffer, left float64, title string, top, wanted float64, power bool, points []point) {
	first, last := math.Log(noises[0]), math.Log(noises[len(noises)-1])
	x := func(cv float64) float64 { return left + panelWidth*(math.Log(cv)-first)/(last-first) }
	y := func(share float64) float64 { return panelTop + panelHeight*(1-min(share, top)/top) }
	fmt.Fprintf(b, `<text x="%.0f" y="24" font-size="14">%s</text>`+"\n", left, title)
	for i := range 6 {
		v := top * float64(i) / 5
		fmt.Fprintf(b, `<line x1="%.0f" y1="%.1f" x2="%.0f" y2="%.1f" stroke="#ddd"/><text x="%.0f" y="%.1f" text-anchor="end">%.0f %%</text>`+"\n",
			left, y(v), left+panelWidth, y(v), left-6, y(v)+4, 100*v)
	}
	fmt.Fprintf(b, `<line x1="%.0f" y1="%.1f" x2="%.0f" y2="%.1f" stroke="#000" stroke-dasharray="2 3"/>`+"\n", left, y(wanted), left+panelWidth, y(wanted))
	for _, cv := range noises {
		fmt.Fprintf(b, `<text x="%.1f" y="%.0f" text-anchor="middle">%.0f</text>`+"\n", x(cv), panelTop+panelHeight+18, 100*cv)
	}
	fmt.Fprintf(b, `<text x="%.0f" y="%.0f" text-anchor="middle">noise of one slot, %%</text>`+"\n", left+panelWidth/2, panelTop+panelHeight+36)
	row := 0.0
	for n, c := range curves {
		if c.power != power {
			continue
		}
		for _, ar := range []float64{0.5, 0} {
			fmt.Fprintf(b, `<polyline fill="none" stroke="%s" stroke-width="2"%s points="`, c.colour, map[bool]string{true: ` stroke-dasharray="6 4"`}[ar == 0])
			for _, p := range points {
				if p.ar == ar {
					fmt.Fprintf(b, "%.1f,%.1f ", x(p.cv), y(p.shares[n]))
				}
			}
			fmt.Fprint(b, `"/>`+"\n")
		}
		at := panelTop + panelHeight + 56 + 18*row
		fmt.Fprintf(b, `<line x1="%.0f" y1="%.0f" x2="%.0f" y2="%.0f" stroke="%s" stroke-width="2"/><text x="%.0f" y="%.0f">%s</text>`+"\n",
			left, at-4, left+24, at-4, c.colour, left+32, at, c.name)
		row++
	}
}
