package stage

import (
	"reflect"
	"strings"
	"testing"

	"cove/userns"
)

const (
	testPasswd = "root:x:0:0:root:/root:/bin/sh\n" +
		"# a comment\n\nshort:x:5\n" +
		"web:x:1000:1001:Web:/srv/web:/bin/sh\n" +
		"web:x:2000:2000:second of the name:/nowhere:/bin/sh\n" +
		"twin:x:1000:9:second of the number:/twin:/bin/sh\n" +
		"rel:x:7:7::home/rel:/bin/sh\n" +
		"big:x:99999999999:1::/:/bin/sh\n" +
		"minus:x:-1:1::/:/bin/sh\n" +
		"1234:x:55:55::/digits:/bin/sh\n" +
		"last:x:8:8::/last:/bin/sh"
	testGroup = "root:x:0:\nstaff:x:50:web,root\nshort:x\nodd:x:notanumber:web\nmany:x:60:other,,web,web\nwebs:x:70:webmaster\n"
)

func TestFindUser(t *testing.T) {
	for _, c := range []struct {
		what string
		want user
		err  string
	}{
		{"", user{name: "root", home: "/root", groups: []uint32{50}}, ""},
		{"root", user{name: "root", home: "/root", groups: []uint32{50}}, ""},
		{"0", user{name: "root", home: "/root", groups: []uint32{50}}, ""},
		{"0:0", user{name: "root", home: "/root"}, ""},
		{"web", user{name: "web", uid: 1000, gid: 1001, home: "/srv/web", groups: []uint32{50, 60}}, ""},
		{"1000", user{name: "web", uid: 1000, gid: 1001, home: "/srv/web", groups: []uint32{50, 60}}, ""},
		{"web:staff", user{name: "web", uid: 1000, gid: 50, home: "/srv/web"}, ""},
		{"web:77", user{name: "web", uid: 1000, gid: 77, home: "/srv/web"}, ""},
		{"4242", user{uid: 4242, home: "/"}, ""},
		{"4242:4343", user{uid: 4242, gid: 4343, home: "/"}, ""},
		{"rel", user{name: "rel", uid: 7, gid: 7, home: "/"}, ""},
		{"last", user{name: "last", uid: 8, gid: 8, home: "/last"}, ""},
		{"1234", user{uid: 1234, home: "/"}, ""}, // a number is a number, as docker has it
		{"nobody", user{}, `user "nobody" is not in /etc/passwd`},
		{"short", user{}, "is not in /etc/passwd"},
		{"web:nogroup", user{}, `group "nogroup" is not in /etc/group`},
		{"web:odd", user{}, "no number"},
		{"web:", user{}, `group ""`},
		{"big", user{}, "no numbers"},
		{"minus", user{}, "no numbers"},
		{"4294967295", user{}, "is not in /etc/passwd"}, // (uid_t) -1
		{"0:4294967295", user{}, "is not in /etc/group"},
		{"-1", user{}, "is not in /etc/passwd"},
		{"\x1b[31m", user{}, `"\x1b[31m"`},
	} {
		u, err := findUser(c.what, []byte(testPasswd), []byte(testGroup))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %+v, %v, want an error with %q", c.what, u, err, c.err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(*u, c.want) {
			t.Errorf("%q: %+v, %v, want %+v", c.what, u, err, c.want)
		}
	}
}

func TestFindUserWithoutFiles(t *testing.T) {
	if u, err := findUser("0", nil, nil); err != nil || u.uid != 0 || u.gid != 0 || u.home != "/" {
		t.Errorf("%+v, %v", u, err)
	}
	if u, err := findUser("root", nil, nil); err == nil {
		t.Errorf("a name without a file: %+v", u)
	}
}

func TestGroupsAreBounded(t *testing.T) {
	group := []byte(strings.Repeat("g:x:1:web\n", 5000))
	u, err := findUser("web", []byte(testPasswd), group)
	if err != nil || len(u.groups) != maxGroups {
		t.Errorf("%d groups, %v", len(u.groups), err)
	}
}

// The kernel refuses setgroups(2) with one that is not mapped: the command would not start.
func TestMappedGroups(t *testing.T) {
	m := userns.IDMap{GIDs: []userns.Range{{ContainerID: 0, HostID: 1000, Size: 1}, {ContainerID: 1, HostID: 100000, Size: 100}}}
	if got := mappedGroups([]uint32{0, 5, 101, 100, 70000, 4294967295}, m); !reflect.DeepEqual(got, []uint32{0, 5, 100}) {
		t.Errorf("got %v", got)
	}
}

func FuzzFindUser(f *testing.F) {
	for _, what := range []string{"", "web", "0", "1000:staff", "x:y:z", "::", "4294967295", "\xff"} {
		f.Add(what, testPasswd, testGroup)
	}
	f.Add("a", "a:x:1:2::/\x00:/", "a:x:1:a")
	f.Fuzz(func(t *testing.T, what, passwd, group string) {
		u, err := findUser(what, []byte(passwd), []byte(group))
		if err != nil {
			if strings.ContainsAny(err.Error(), "\x1b\n\r") {
				t.Errorf("error %q", err)
			}
			return
		}
		if !strings.HasPrefix(u.home, "/") || len(u.groups) > maxGroups {
			t.Errorf("%+v", u)
		}
		if u.name == "" && u.groups != nil {
			t.Errorf("groups of nobody: %+v", u)
		}
	})
}
