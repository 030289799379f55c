"""Background maintenance of the store. Workers claim rows of work by lease, so that a process may die at any moment.

One module per worker; each has one class with the interface `runner.Worker`:

    replicate_files          gives each queued file the replicas that its class's policy requires
    rebalance_files          moves replicas from fuller to emptier devices while a rebalance runs
    drain_devices            moves all replicas off the devices that are being drained
    delete_files             deletes the bytes of fids that no key refers to
    cleanup_orphans          expires unfinished uploads and deletes the bytes of abandoned copies
    check_files              compares the replicas with the database while a check (fsck) runs
    scrub_files              reads every replica again within a period and repairs damage
    journal_writer           writes the metadata of the files of a device to a journal on that device
    retry_deferred           reschedules deferred work when the reason for the deferral is gone
    replicate_absent         queues the files of devices that are presumed dead
    reap_dead                queues the files of devices that are marked dead
    queue_changed_classes    queues the files of classes whose replica count or policy changed
    update_placement_counts  keeps the counts of files per set of devices up to date
    drain_failing            drains devices whose disks report that they are failing

Shared by several workers:

    runner                   the loop around a worker: claiming ahead, concurrency, leases, back-off, shutdown
    task_queue               claimed rows: renewing and releasing them; claiming from the queue of one type of task
    queue_passes             queueing the files of a class or device for replication, a transaction at a time
    copier                   creates replicas (reserve, copy, verify, record) and removes surplus ones
    copying                  transfers the bytes of one file between two storage nodes
    move_files               moves one replica: copies it, then removes the source
    examination              examines one file, decides by `model.fsck`, records the result
    survey                   measures replicas on storage nodes: many lengths at once, or one file with digests
    throttle                 limits the bytes per second of one kind of work in this process
    lock_fids                wraps a worker so that it holds mogilefsd's lock on the fid that it changes

Parts of a process rather than workers:

    service                  creates, starts and stops all workers of a process
    monitor                  observes every device and keeps the process's view of the cluster current
    epoch_watch              compares the epoch marks on devices with the database; detects stale databases
    wakeup_poller            wakes workers for work that other processes have queued
    pace_recorder            records the throughput of this process's workers in the database
"""
