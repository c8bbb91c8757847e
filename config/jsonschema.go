package config

import "strings"

// JSONSchema describes the profile to editors, in the words of JSON Schema 2020-12: every key that the decoder knows, with
// what about says of it. With own it is the schema of the user's own config.toml, which may have [trust] too. The decoder
// has the last word: what the schema takes can still be wrong (a port twice, a file that is not there), and what the
// decoder takes the schema takes too.
func JSONSchema(own bool, about func(key string) string) map[string]any {
	title := "cove.toml, the profile of a project's sandbox"
	if own {
		title = "config.toml, your own defaults for cove's sandboxes"
	}
	root := tableSchema("", own, about)
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = title
	return root
}

// tableSchema has the keys directly below a table; "" is the top level.
func tableSchema(parent string, own bool, about func(string) string) map[string]any {
	keys := map[string]any{}
	for i, s := range schema {
		name, below := strings.CutPrefix(s.key, parent+".")
		if parent == "" {
			name, below = s.key, true
		}
		if !below || strings.Contains(name, ".") || s.key == ownTable && !own {
			continue
		}
		one := keySchema(i, own, about)
		if text := about(s.key); text != "" {
			one["description"] = text
		}
		keys[name] = one
	}
	return map[string]any{"type": "object", "properties": keys, "additionalProperties": false}
}

func keySchema(i int, own bool, about func(string) string) map[string]any {
	key, sh := schema[i].key, schema[i].shape
	switch sh.form {
	case isTable:
		return tableSchema(key, own, about)
	case isTables:
		item := tableSchema(key, own, about)
		item["required"] = required(key)
		return map[string]any{"type": "array", "items": item}
	case isNamed:
		return map[string]any{"type": "object", "additionalProperties": map[string]any{"type": "string"}}
	case isTruth:
		return map[string]any{"type": "boolean"}
	case isNumber, isWhole:
		return sh.number()
	case isWholes:
		return map[string]any{"type": "array", "items": sh.number()}
	case isTexts:
		return map[string]any{"type": "array", "items": sh.text(nil)}
	case isTextOrTexts:
		list := map[string]any{"type": "array", "items": sh.text(nil)}
		if sh.some == nil {
			return map[string]any{"anyOf": []any{map[string]any{"type": "string"}, list}}
		}
		return map[string]any{"anyOf": []any{map[string]any{"type": "string", "enum": sh.some()}, list}}
	}
	return sh.text(wordsOf(key))
}

func (sh shape) number() map[string]any {
	one := map[string]any{"type": "number"}
	if sh.form != isNumber {
		one["type"] = "integer"
	}
	if sh.to != 0 {
		one["minimum"], one["maximum"] = sh.from, sh.to
	}
	return one
}

func (sh shape) text(words []string) map[string]any {
	one := map[string]any{"type": "string"}
	if words != nil {
		one["enum"] = words
	}
	if sh.like == "" {
		return one
	}
	if sh.some == nil {
		one["pattern"] = sh.like
		return one
	}
	return map[string]any{"type": "string", "anyOf": []any{map[string]any{"enum": sh.some()}, map[string]any{"pattern": sh.like}}}
}

// wordsOf are the words of which a key's value must be one, nil when it may be another text. They are asked of the key's own
// setter, which tells them to whoever writes a wrong one: no file can hold a NUL.
func wordsOf(key string) []string {
	c := &change{key: key, value: "\x00", origin: func(string) Origin { return Origin{} }}
	p := defaults()
	if name, ok := strings.CutPrefix(key, "mount."); ok {
		c.value = map[string]any{"source": "/x", "target": "/x", name: "\x00"}
		c.key = "mount"
	}
	if set := setterOf(c); set != nil {
		set(p, c)
	}
	return c.words
}

// required are the keys without which a table is not whole, as the decoder has it that says so.
func required(table string) []string {
	var out []string
	c := &change{key: table, value: map[string]any{}, origin: func(string) Origin { return Origin{} }}
	if set := setterOf(c); set != nil {
		set(defaults(), c)
	}
	for _, w := range c.wrong {
		for _, name := range keysBelow(table) {
			if w.atKey && strings.Contains(w.text, ": "+name+" is missing") {
				out = append(out, name)
			}
		}
	}
	return out
}
