-- adds the columns etag and attributes of tawara_file: entity tags and header fields of objects; going back loses them
-- forwards: sqlite
ALTER TABLE tawara_file ADD COLUMN etag VARCHAR(80);
ALTER TABLE tawara_file ADD COLUMN attributes BLOB;
-- forwards: postgresql
ALTER TABLE tawara_file ADD COLUMN etag VARCHAR(80);
ALTER TABLE tawara_file ADD COLUMN attributes BYTEA;
-- forwards: mysql
ALTER TABLE tawara_file ADD COLUMN etag VARCHAR(80);
ALTER TABLE tawara_file ADD COLUMN attributes BLOB;
-- backwards
ALTER TABLE tawara_file DROP COLUMN attributes;
ALTER TABLE tawara_file DROP COLUMN etag;
