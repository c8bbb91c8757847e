package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// table prints the results of several tools side by side, in Markdown: how many checks of each promise are open, and
// which.
func table(args []string) int {
	type column struct {
		name    string
		results map[string]result
	}
	var columns []column
	var order []result
	seen := map[string]bool{}
	for _, arg := range args {
		name, file, ok := strings.Cut(arg, "=")
		if !ok {
			usage()
		}
		f, err := os.Open(file)
		if err != nil {
			fmt.Fprintln(os.Stderr, "probe:", err)
			return 1
		}
		c := column{name, map[string]result{}}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var r result
			if json.Unmarshal(lines.Bytes(), &r) != nil || r.Name == "" {
				continue
			}
			c.results[r.Name] = r
			if !seen[r.Name] {
				seen[r.Name] = true
				order = append(order, r)
			}
		}
		f.Close()
		columns = append(columns, c)
	}
	line := func(cells ...string) { fmt.Println("| " + strings.Join(cells, " | ") + " |") }
	head, rule := []string{"open, of all tried"}, []string{"---"}
	for _, c := range columns {
		head, rule = append(head, c.name), append(rule, "---")
	}
	line(head...)
	line(rule...)
	for _, promise := range []string{outside, rights, kernel, tool, system, network, after, ""} {
		cells := []string{promise}
		if promise == "" {
			cells[0] = "**all**"
		}
		for _, c := range columns {
			opened, tried := 0, 0
			for _, r := range c.results {
				if promise != "" && r.Promise != promise || r.Verdict == Cannot {
					continue
				}
				tried++
				if r.Verdict == Open {
					opened++
				}
			}
			cells = append(cells, fmt.Sprintf("%d of %d", opened, tried))
		}
		line(cells...)
	}
	fmt.Println()
	for _, c := range columns {
		var names []string
		for _, r := range order {
			if c.results[r.Name].Verdict == Open {
				names = append(names, r.Name)
			}
		}
		if len(names) == 0 {
			names = []string{"nothing"}
		}
		fmt.Printf("Open in %s: %s.\n\n", c.name, strings.Join(names, ", "))
	}
	return 0
}
