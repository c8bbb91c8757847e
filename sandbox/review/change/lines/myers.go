package lines

import "bytes"

// Split parts text into lines, each with its newline; the last may have none.
func Split(text []byte) [][]byte {
	var out [][]byte
	for l := range bytes.Lines(text) {
		out = append(out, l)
	}
	return out
}

// maxCost bounds how far one search for a common part goes; what it has not found by then counts as different.
const maxCost = 2000

// budget bounds all searches for one pair of texts together, in steps.
const budget = 40_000_000

// differ finds what of two sequences of line numbers is not common to both.
type differ struct {
	a, b       []int
	gone, come []bool // lines of a that are not in b; of b that are not in a
	up, down   []int  // furthest reaching points of both searches, by diagonal
	left       int    // steps that may still be made
}

// compare marks what differs.
func compare(a, b [][]byte) (gone, come []bool) {
	number := map[string]int{}
	numbers := func(lines [][]byte) []int {
		out := make([]int, len(lines))
		for i, l := range lines {
			n, ok := number[string(l)]
			if !ok {
				n = len(number)
				number[string(l)] = n
			}
			out[i] = n
		}
		return out
	}
	d := &differ{a: numbers(a), b: numbers(b), gone: make([]bool, len(a)), come: make([]bool, len(b)), left: budget}
	size := 2*maxCost + 3
	d.up, d.down = make([]int, size), make([]int, size)
	d.run(0, len(a), 0, len(b))
	return d.gone, d.come
}

// run compares a[a0:a1] with b[b0:b1].
func (d *differ) run(a0, a1, b0, b1 int) {
	for {
		for a0 < a1 && b0 < b1 && d.a[a0] == d.b[b0] {
			a0, b0 = a0+1, b0+1
		}
		for a0 < a1 && b0 < b1 && d.a[a1-1] == d.b[b1-1] {
			a1, b1 = a1-1, b1-1
		}
		if a0 == a1 || b0 == b1 {
			break
		}
		x, y, ok := d.middle(a0, a1, b0, b1)
		if !ok || x == a0 && y == b0 || x == a1 && y == b1 {
			break
		}
		d.run(a0, x, b0, y)
		a0, b0 = x, y
	}
	for i := a0; i < a1; i++ {
		d.gone[i] = true
	}
	for i := b0; i < b1; i++ {
		d.come[i] = true
	}
}

// middle finds a point on a shortest way from one corner to the other, by searching from both until they meet.
// Diagonal k holds the points with x-y == k, here relative to a0 and b0.
func (d *differ) middle(a0, a1, b0, b1 int) (x, y int, ok bool) {
	n, m := a1-a0, b1-b0
	delta := n - m
	off := maxCost + 1
	d.down[off+1], d.up[off+1] = 0, 0
	for cost := 0; cost <= min((n+m+1)/2, maxCost); cost++ {
		if d.left -= 2 * (cost + 1); d.left < 0 {
			return 0, 0, false
		}
		for k := -cost; k <= cost; k += 2 {
			i := d.reach(d.down, off, k, cost)
			for i < n && i-k < m && i-k >= 0 && d.a[a0+i] == d.b[b0+i-k] {
				i++
			}
			d.down[off+k] = i
			// The other search has made one step less; it counts from the far corner.
			if r := delta - k; delta%2 != 0 && r >= -(cost-1) && r <= cost-1 && meet(i, k, d.up[off+r], r, n, m) {
				return a0 + i, b0 + i - k, true
			}
		}
		for k := -cost; k <= cost; k += 2 {
			i := d.reach(d.up, off, k, cost)
			for i < n && i-k < m && i-k >= 0 && d.a[a1-1-i] == d.b[b1-1-(i-k)] {
				i++
			}
			d.up[off+k] = i
			if r := delta - k; delta%2 == 0 && r >= -cost && r <= cost && meet(i, k, d.down[off+r], r, n, m) {
				return a1 - i, b1 - (i - k), true
			}
		}
	}
	return 0, 0, false
}

// reach is where a search comes to on diagonal k with one more line that differs.
func (d *differ) reach(v []int, off, k, cost int) int {
	if k == -cost || k != cost && v[off+k-1] < v[off+k+1] {
		return v[off+k+1]
	}
	return v[off+k-1] + 1
}

// meet tells whether a search that is at i on its diagonal k has come to where the other is, at j on r. Either may have
// left the field, which leads nowhere.
func meet(i, k, j, r, n, m int) bool {
	return i+j >= n && i <= n && i-k <= m && j <= n && j-r <= m
}
