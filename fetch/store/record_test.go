package store

import (
	"encoding/json"
	"os"
	"testing"

	"cove/fetch/oci"
)

// A record as earlier coves have written it, with all that a config may say: it must be read, and
// written again byte for byte.
const writtenRecord = `{"manifest":"sha256:08c6a2ceac9e26f2d8b0a0dbdd7b8bb2e4e4b1bba0d4d3cf0e28f34a7f2f6a11",` +
	`"mediaType":"application/vnd.oci.image.manifest.v1+json","config":"sha256:18c6a2ceac9e26f2d8b0a0dbdd7b8bb2e4e4b1bba0d4d3cf0e28f34a7f2f6a11",` +
	`"platform":"linux/arm/v7","created":"2024-05-06T07:08:09.123456789Z","pulled":"2025-01-02T03:04:05.000000001Z",` +
	`"idmap":{"uids":[{"container":0,"host":1000,"size":1},{"container":1,"host":100000,"size":65536}],"gids":[{"container":0,"host":1000,"size":1}]},` +
	`"imageConfig":{"User":"web:www","ExposedPorts":{"80/tcp":{}},"Env":["PATH=/bin","A=\u003cb\u003e"],"Entrypoint":["/bin/web"],"Cmd":["-x",""],` +
	`"Volumes":{"/data":{}},"WorkingDir":"/srv","Labels":{"a":"b","c":"\u001b[2J"},"StopSignal":"SIGINT","ArgsEscaped":true},` +
	`"layers":[{"digest":"sha256:28c6a2ceac9e26f2d8b0a0dbdd7b8bb2e4e4b1bba0d4d3cf0e28f34a7f2f6a11","size":12,` +
	`"diffID":"sha256:38c6a2ceac9e26f2d8b0a0dbdd7b8bb2e4e4b1bba0d4d3cf0e28f34a7f2f6a11","dir":"38c6","bytes":34,"entries":5}]}`

func TestEarlierRecords(t *testing.T) {
	s := open(t)
	h := Handle{"sha256:08c6a2ceac9e26f2d8b0a0dbdd7b8bb2e4e4b1bba0d4d3cf0e28f34a7f2f6a11", "key"}
	if err := os.MkdirAll(s.path("layers", "key", "38c6"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.recordPath(h), []byte(writtenRecord+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rec, err := s.Record(h)
	if err != nil {
		t.Fatal(err)
	}
	c := rec.Config
	if rec.Manifest != h.Manifest || c.User != "web:www" || c.Env[1] != "A=<b>" || c.Labels["c"] != "\x1b[2J" || !c.ArgsEscaped || rec.Layers[0].Entries != 5 {
		t.Errorf("%+v", rec)
	}
	again, err := json.Marshal(rec)
	if err != nil || string(again) != writtenRecord {
		t.Errorf("written again (%v):\n%s\nwas\n%s", err, again, writtenRecord)
	}
	if bare, err := json.Marshal(oci.ImageConfig{}); err != nil || string(bare) != "{}" {
		t.Errorf("an empty config is %s %v", bare, err)
	}
}
