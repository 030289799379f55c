-- adds tawara_note and tawara_journal, from which the devices get the names of what they hold
-- forwards: sqlite
CREATE TABLE IF NOT EXISTS tawara_journal (
	devid INTEGER NOT NULL,
	nexttry INTEGER DEFAULT '0' NOT NULL,
	held SMALLINT DEFAULT '0' NOT NULL,
	epoch INTEGER DEFAULT '0' NOT NULL,
	generation INTEGER DEFAULT '0' NOT NULL,
	round INTEGER DEFAULT '0' NOT NULL,
	position INTEGER,
	segments INTEGER DEFAULT '0' NOT NULL,
	next_segment INTEGER DEFAULT '1' NOT NULL,
	old_segments INTEGER DEFAULT '0' NOT NULL,
	written INTEGER DEFAULT '0' NOT NULL,
	live INTEGER DEFAULT '0' NOT NULL,
	tail INTEGER DEFAULT '0' NOT NULL,
	tail_slot SMALLINT DEFAULT '-1' NOT NULL,
	charter INTEGER DEFAULT '0' NOT NULL,
	PRIMARY KEY (devid)
);
CREATE TABLE IF NOT EXISTS tawara_note (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	devid INTEGER NOT NULL,
	fid INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS tawara_note_devid ON tawara_note (devid, seq);
-- forwards: postgresql
CREATE TABLE IF NOT EXISTS tawara_journal (
	devid INTEGER NOT NULL,
	nexttry BIGINT DEFAULT '0' NOT NULL,
	held SMALLINT DEFAULT '0' NOT NULL,
	epoch BIGINT DEFAULT '0' NOT NULL,
	generation BIGINT DEFAULT '0' NOT NULL,
	round BIGINT DEFAULT '0' NOT NULL,
	position BIGINT,
	segments BIGINT DEFAULT '0' NOT NULL,
	next_segment BIGINT DEFAULT '1' NOT NULL,
	old_segments BIGINT DEFAULT '0' NOT NULL,
	written BIGINT DEFAULT '0' NOT NULL,
	live BIGINT DEFAULT '0' NOT NULL,
	tail BIGINT DEFAULT '0' NOT NULL,
	tail_slot SMALLINT DEFAULT '-1' NOT NULL,
	charter BIGINT DEFAULT '0' NOT NULL,
	PRIMARY KEY (devid)
);
CREATE TABLE IF NOT EXISTS tawara_note (
	seq BIGSERIAL NOT NULL,
	devid INTEGER NOT NULL,
	fid BIGINT NOT NULL,
	PRIMARY KEY (seq)
);
CREATE INDEX IF NOT EXISTS tawara_note_devid ON tawara_note (devid, seq);
-- forwards: mysql
CREATE TABLE IF NOT EXISTS tawara_journal (
	devid INTEGER NOT NULL,
	nexttry BIGINT NOT NULL DEFAULT '0',
	held SMALLINT NOT NULL DEFAULT '0',
	epoch BIGINT NOT NULL DEFAULT '0',
	generation BIGINT NOT NULL DEFAULT '0',
	round BIGINT NOT NULL DEFAULT '0',
	position BIGINT,
	segments BIGINT NOT NULL DEFAULT '0',
	next_segment BIGINT NOT NULL DEFAULT '1',
	old_segments BIGINT NOT NULL DEFAULT '0',
	written BIGINT NOT NULL DEFAULT '0',
	live BIGINT NOT NULL DEFAULT '0',
	tail BIGINT NOT NULL DEFAULT '0',
	tail_slot SMALLINT NOT NULL DEFAULT '-1',
	charter BIGINT NOT NULL DEFAULT '0',
	PRIMARY KEY (devid)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE IF NOT EXISTS tawara_note (
	seq BIGINT NOT NULL AUTO_INCREMENT,
	devid INTEGER NOT NULL,
	fid BIGINT NOT NULL,
	PRIMARY KEY (seq),
	KEY tawara_note_devid (devid, seq)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
-- backwards
DROP TABLE IF EXISTS tawara_note;
DROP TABLE IF EXISTS tawara_journal;
