-- Schema 17 as MogileFS 2.73 makes it on PostgreSQL (reference: sections 17 and 17.3). The table `lock` is never used.
CREATE TABLE domain (dmid SMALLINT NOT NULL PRIMARY KEY, namespace VARCHAR(255), UNIQUE (namespace));
CREATE TABLE class (
    dmid SMALLINT NOT NULL,
    classid SMALLINT NOT NULL,
    PRIMARY KEY (dmid, classid),
    classname VARCHAR(50),
    UNIQUE (dmid, classname),
    mindevcount SMALLINT NOT NULL,
    hashtype SMALLINT
);
CREATE TABLE file (
    fid BIGINT NOT NULL,
    PRIMARY KEY (fid),
    dmid SMALLINT NOT NULL,
    dkey VARCHAR(255),
    UNIQUE (dmid, dkey),
    length BIGINT,
    CHECK (length >= 0),
    classid SMALLINT NOT NULL,
    devcount SMALLINT NOT NULL
);
CREATE INDEX file_devcount ON file (dmid, classid, devcount);
CREATE TABLE tempfile (
    fid SERIAL,
    PRIMARY KEY (fid),
    createtime INT NOT NULL,
    classid SMALLINT NOT NULL,
    dmid SMALLINT NOT NULL,
    dkey VARCHAR(255),
    devids VARCHAR(60)
);
CREATE TABLE file_to_delete (fid BIGINT NOT NULL, PRIMARY KEY (fid));
CREATE TABLE unreachable_fids (fid BIGINT NOT NULL, lastupdate INT NOT NULL, PRIMARY KEY (fid));
CREATE INDEX unreachable_fids_lastupdate ON unreachable_fids (lastupdate);
CREATE TABLE file_on (fid BIGINT NOT NULL, devid SMALLINT NOT NULL, PRIMARY KEY (fid, devid));
CREATE INDEX file_on_devid ON file_on (devid);
CREATE TABLE file_on_corrupt (fid BIGINT NOT NULL, devid SMALLINT NOT NULL, PRIMARY KEY (fid, devid));
CREATE TABLE host (
    hostid SMALLINT NOT NULL,
    PRIMARY KEY (hostid),
    CHECK (hostid >= 0),
    status VARCHAR(8),
    http_port INT DEFAULT 7500,
    CHECK (http_port >= 0),
    CHECK (http_port < 65536),
    http_get_port INT,
    CHECK (http_get_port >= 0),
    CHECK (http_get_port < 65536),
    hostname VARCHAR(40),
    UNIQUE (hostname),
    hostip VARCHAR(15),
    UNIQUE (hostip),
    altip VARCHAR(15),
    UNIQUE (altip),
    altmask VARCHAR(18),
    CONSTRAINT status CHECK (status IN ('alive', 'dead', 'down', 'readonly'))
);
CREATE TABLE device (
    devid SMALLINT NOT NULL,
    PRIMARY KEY (devid),
    CHECK (devid >= 0),
    hostid SMALLINT NOT NULL,
    status VARCHAR(8),
    CHECK (status IN ('alive', 'dead', 'down', 'readonly', 'drain')),
    weight INT DEFAULT 100,
    mb_total INT,
    CHECK (mb_total >= 0),
    mb_used INT,
    CHECK (mb_used >= 0),
    mb_asof INT CHECK (mb_asof >= 0)
);
CREATE INDEX device_status ON device (status);
CREATE TABLE server_settings (field VARCHAR(50) PRIMARY KEY, value TEXT);
CREATE TABLE file_to_replicate (
    fid BIGINT NOT NULL PRIMARY KEY,
    nexttry INT NOT NULL,
    fromdevid INT,
    failcount SMALLINT NOT NULL DEFAULT 0,
    flags SMALLINT NOT NULL DEFAULT 0
);
CREATE INDEX file_to_replicate_nexttry ON file_to_replicate (nexttry);
CREATE TABLE file_to_delete_later (fid BIGINT NOT NULL PRIMARY KEY, delafter INT NOT NULL);
CREATE INDEX file_to_delete_later_delafter ON file_to_delete_later (delafter);
CREATE TABLE fsck_log (
    logid SERIAL,
    PRIMARY KEY (logid),
    utime INT NOT NULL,
    fid BIGINT NULL,
    evcode CHAR(4),
    devid SMALLINT
);
CREATE INDEX fsck_log_utime ON fsck_log (utime);
CREATE TABLE file_to_queue (
    fid BIGINT NOT NULL,
    devid INT,
    type SMALLINT NOT NULL,
    nexttry INT NOT NULL,
    failcount SMALLINT NOT NULL DEFAULT '0',
    flags SMALLINT NOT NULL DEFAULT '0',
    arg TEXT,
    PRIMARY KEY (fid, type)
);
CREATE INDEX type_nexttry ON file_to_queue (type, nexttry);
CREATE TABLE file_to_delete2 (
    fid BIGINT NOT NULL PRIMARY KEY,
    nexttry INT NOT NULL,
    failcount SMALLINT NOT NULL DEFAULT '0'
);
CREATE INDEX file_to_delete2_nexttry ON file_to_delete2 (nexttry);
CREATE TABLE checksum (fid BIGINT NOT NULL PRIMARY KEY, hashtype SMALLINT NOT NULL, checksum BYTEA NOT NULL);
CREATE TABLE lock (
    lockid INT NOT NULL,
    PRIMARY KEY (lockid),
    CHECK (lockid >= 0),
    hostname VARCHAR(255) NOT NULL,
    pid INT NOT NULL,
    CHECK (pid >= 0),
    acquiredat INT NOT NULL,
    CHECK (acquiredat >= 0)
);
ALTER TABLE class ADD COLUMN replpolicy VARCHAR(255);
INSERT INTO server_settings (field, value) VALUES ('schema_version', '17');
