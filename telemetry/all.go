package telemetry

// all lists the collectors in the order they run: one file each, sorted by name. With a nil env they
// can only describe themselves.
func all(e *env) []collector {
	scan := newProcScan(e)
	return []collector{
		newBuddy(e),
		newCgroups(e),
		newConntrack(e),
		newCPU(e),
		newDiskstats(e),
		newKSM(e),
		newKthreads(e, scan),
		newListeners(e),
		newMeminfo(e),
		newNeigh(e),
		newNetdev(e),
		newNetstat(e),
		newPorts(e),
		newProcesses(e, scan),
		newPSI(e),
		newSchedstat(e),
		newSockstat(e),
		newSoftnet(e),
		newTables(e),
		newTCPInfo(e),
		newUDPSockets(e),
		newUnixSockets(e),
		newVmstat(e),
	}
}
