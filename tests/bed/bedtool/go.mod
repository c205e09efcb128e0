module bedtool

go 1.26.0
