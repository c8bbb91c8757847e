package config

import "testing"

// Every start pays for this: it must stay far below the milliseconds that making namespaces costs.
func BenchmarkLoad(b *testing.B) {
	opts, err := DefaultOptions()
	if err != nil {
		b.Fatal(err)
	}
	opts.ProfileFlag = "../testdata/profiles/full.toml"
	for b.Loop() {
		if _, _, err := Load(opts); err != nil {
			b.Fatal(err)
		}
	}
}
