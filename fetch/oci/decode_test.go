package oci

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestDecode(t *testing.T) {
	for text, want := range map[string]string{
		`{"schemaVersion":2,"config":{},"layers":[],"annotations":{"a":"1","A":"2"}}`: "",
		`{"schemaVersion":2,"config":{},"config":{}}`:                                 `"config" occurs twice`,
		`{"schemaVersion":2,"Config":{}}`:                                             `"Config" is "config" but for case`,
		`{"layers":[{"digest":"a"},{"digest":"a","digest":"b"}]}`:                     `"digest" occurs twice`,
		`{"layers":[{"siZe":1}]}`:                                                     `"siZe" is "size" but for case`,
		`{"layer\u017f":[]}`:                                                          `is "layers" but for case`, // ſ
		`{"\u212a":1,"k":2}`:                                                          "differ only in case",      // the sign of Kelvin
		`{"annotations":{"a":"1","a":"2"}}`:                                           `"a" occurs twice`,
		`{"x":{"deep":[{"a":1,"a":2}]}}`:                                              `"a" occurs twice`,
		`{"x":{"deep":[{"a":1,"A":2}]}}`:                                              "",
		`{"X":1,"x":2}`:                                                               "differ only in case",
		`{"layers":[{"platform":{"OS":"linux"}}]}`:                                    `"OS" is "os" but for case`,
		`{"a":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}`:             "nested more than 64 times",
		`{"config":{}} {}`:                                                            "invalid character",
		`[]`:                                                                          "cannot unmarshal",
		`{"layers":[` + strings.Repeat("{},", 100_000) + `{}]}`:                       "holds more than 100000 keys and values",
		`{"a":1,"a":2`:                                                                "occurs twice",
		`{"a":1,}`:                                                                    "invalid character",
		`{"layers":[}`:                                                                "invalid character",
		`null`:                                                                        "",
		`{"config":null,"manifests":null,"layers":[null]}`:                            "",
	} {
		var d Document
		err := Decode([]byte(text), &d)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	var img Image
	for text, want := range map[string]string{
		`{"config":{"User":"0","Labels":{"a":"","A":""},"Volumes":{"/a":{},"/A":{}},"Healthcheck":{"Test":[]}},"container_config":{"user":"x"}}`: "",
		`{"config":{"User":"1000","user":"0"}}`:  `"user" is "User" but for case`,
		`{"rootfs":{"diff_ids":[]},"RootFS":{}}`: `"RootFS" is "rootfs"`,
		`{"os":"linux","OS":"windows"}`:          `"OS" is "os"`,
	} {
		if err := Decode([]byte(text), &img); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// firstWins reads an object as those readers do that take exact names, and the first of two.
func firstWins(d *json.Decoder) any {
	token, err := d.Token()
	if err != nil {
		return nil
	}
	switch token {
	case json.Delim('{'):
		out := map[string]any{}
		for d.More() {
			key, _ := d.Token()
			value := firstWins(d)
			if _, ok := out[key.(string)]; !ok {
				out[key.(string)] = value
			}
		}
		_, _ = d.Token()
		return out
	case json.Delim('['):
		out := []any{}
		for d.More() {
			out = append(out, firstWins(d))
		}
		_, _ = d.Token()
		return out
	}
	return token
}

// The law: what is accepted means the same to a reader that takes the first of two keys and exact names only.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"schemaVersion":2,"config":{"digest":"x"},"Config":{"digest":"y"}}`, `{"layers":[{"size":1,"size":2}]}`,
		`{"manifests":[{"platform":{"os":"linux"},"annotations":{"a":"b"}}]}`, `{"layer\u017f":[]}`, `{"config":{"data":"eA=="}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var d, other Document
		if Decode(data, &d) != nil {
			return
		}
		dec := json.NewDecoder(strings.NewReader(string(data)))
		dec.UseNumber()
		again, err := json.Marshal(onlyKnown(firstWins(dec), reflect.TypeOf(d)))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(again, &other); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		d.FSLayers, other.FSLayers = nil, nil // raw, and so its spaces
		if !reflect.DeepEqual(d, other) {
			t.Errorf("%q is %+v, and to others %+v", data, d, other)
		}
	})
}

// onlyKnown takes from objects the keys that are not exactly a field's.
func onlyKnown(v any, t reflect.Type) any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch v := v.(type) {
	case map[string]any:
		switch t.Kind() {
		case reflect.Struct:
			fields := map[string]field{}
			addFields(fields, t)
			out := map[string]any{}
			for _, f := range fields {
				if value, ok := v[f.name]; ok {
					out[f.name] = onlyKnown(value, f.t)
				}
			}
			return out
		case reflect.Map:
			for k := range v {
				v[k] = onlyKnown(v[k], t.Elem())
			}
		}
	case []any:
		if t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8 {
			for i := range v {
				v[i] = onlyKnown(v[i], t.Elem())
			}
		}
	}
	return v
}
