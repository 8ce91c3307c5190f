// Package privilege makes a process an ordinary user's.
//
// It owns who that user is, giving up uid, groups and capabilities on the way through exec, the system calls
// denied afterwards, and the check that it all holds. It must never go half of the way: what cannot be given
// up is an error before anything is, or the end of the process. Read [Become] first.
package privilege
