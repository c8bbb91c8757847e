package config

// Add lays a value over a list of the profile as a flag that is added does.
func (p *Profile) Add(key string, value []string, origin Origin) error {
	return p.change(&change{key: key, value: value, add: true}, origin)
}
