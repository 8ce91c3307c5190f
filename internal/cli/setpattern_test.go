package cli

import "testing"

func TestMatcher(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		pattern, target string
		want            bool
	}{
		{"*", "/a/b/c", true},
		{"/system.slice/*", "/system.slice/nginx.service", true},
		{"/system.slice/*", "/system.slice/a/b", false},
		{"/system.slice/**", "/system.slice/a/b", true},
		{"netns:40265318??", "netns:4026531840", true},
		{"netns:40265318??", "netns:40265318400", false},
		{"tcp:*:80;*", "tcp:0.0.0.0:80;netns=1;cookie=2", true},
		{"tcp:[::]:80;*", "tcp:[::]:80;netns=1;cookie=2", true},
		{"tcp:*:80;*", "tcp:0.0.0.0:8080;netns=1;cookie=2", false},
		{"eth*/rx-*", "eth0/rx-12", true},
		{"web.", "webx", false},
	} {
		if got := matcher(tc.pattern)(tc.target); got != tc.want {
			t.Errorf("%s on %s: %v", tc.pattern, tc.target, got)
		}
	}
}
